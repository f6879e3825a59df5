"""Passes of the dense model and of populations over text."""
