"""Pruned weights, which are no slices of the dense ones: making and caching them."""
