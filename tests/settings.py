"""Settings of the searches that several tests share."""

from typing import Any

BUDGET = "params<=0.8x"
SMALL: dict[str, Any] = {
    "budget": BUDGET,
    "evaluations": 40,
    "population": 8,
    "search_windows": 4,
    "window_tokens": 16,
    "calibration_windows": 64,
    "fresh_windows": 5,
    "holdout_windows": 3,
}
"""A search of the tiny Llama in a few seconds."""

SHORT_TEXT: dict[str, Any] = {
    "search_windows": 4,
    "window_tokens": 16,
    "calibration_windows": 12,
    "fresh_windows": 3,
    "holdout_windows": 3,
}
"""Windows of searches from end to end, whose scores need mean nothing."""
