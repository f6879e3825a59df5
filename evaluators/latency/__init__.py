"""Timing models and their parts on the device at hand."""
