"""Scoring candidates against the dense model."""
