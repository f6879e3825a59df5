"""Passes over calibration text that collect statistics of each layer."""

from evaluators.collectors.collect import collect_statistics, stored_statistics

__all__ = ["collect_statistics", "stored_statistics"]
