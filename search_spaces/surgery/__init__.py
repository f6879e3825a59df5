"""Slicing layers for scoring and cutting them for export."""
