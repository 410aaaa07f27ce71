"""The paper's claim in miniature: what the loop annotates by itself makes the blind network better."""
