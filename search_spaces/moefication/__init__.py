"""Splitting a dense gated MLP into experts and a router, in closed form and without training."""
