"""Importance of the experts of a mixture."""
