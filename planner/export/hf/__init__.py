"""Exports as HuggingFace folders."""
