"""Exports that the page begins, and what became of them."""
