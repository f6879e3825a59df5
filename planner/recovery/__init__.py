"""Recovering the weights of a plan: a variant of it, with scores of its own."""
