"""Searchers that learn nothing."""
