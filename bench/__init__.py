"""Measures the whole stream against the bare model server, side by side, on the embedded stack."""
