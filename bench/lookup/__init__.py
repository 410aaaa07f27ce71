"""Measures lookup: whether an upload's original is found and confirmed, and what the index costs at a given size."""
