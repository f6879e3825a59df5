"""Improvements of matrices that are sparse already."""
