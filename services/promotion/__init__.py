"""Which version of a model serves: promoted, watched, rolled back."""
