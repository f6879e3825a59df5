"""Weights that are no slices of the dense ones: making them, keeping them."""
