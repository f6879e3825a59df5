"""What a pass over calibration text measures of each layer, as rankings and repairs ask for it."""

from evaluators.collectors.collect import collect_statistics, kept_statistics

__all__ = ["collect_statistics", "kept_statistics"]
