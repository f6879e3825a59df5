"""Measuring candidates: quality against the dense model, and cost."""
