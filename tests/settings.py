"""Settings of the searches that several tests share."""

from typing import Any

BUDGET = "params<=0.8x"
SMALL: dict[str, Any] = {
    "budget": BUDGET,
    "evaluations": 40,
    "population": 8,
    "search_windows": 4,
    "window_tokens": 16,
    "fresh_windows": 5,
    "holdout_windows": 3,
}
"""A search of the tiny Llama in a few seconds."""
