"""Cost metrics, one a file; additive over components."""
