"""Benchmarks: `make prepared-NAME` runs one and writes its table."""
