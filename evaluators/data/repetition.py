"""Whether one text repeats another, be it in another file, format or place."""

import re

import numpy as np
from numpy.typing import NDArray

_PASSAGE_TOKENS = 16
"""So many tokens in a row are hardly written twice by chance."""
_PASSAGE_CHARACTERS = 80
"""The same of text that has no tokens yet."""
_PASSAGES = 32
"""So many are looked for in another text."""


class Seen:
    """Windows that were seen, by the runs of tokens in them."""

    def __init__(self) -> None:
        self._runs: set[bytes] = set()

    def is_new(self, window: NDArray[np.int64]) -> bool:
        """Return whether at least half of a window's runs ``(tokens,)`` are new, and note it."""
        length = min(_PASSAGE_TOKENS, len(window))
        views = np.lib.stride_tricks.sliding_window_view(window, length)
        runs = {view.tobytes() for view in views}
        if 2 * len(runs & self._runs) > len(runs):
            return False
        self._runs |= runs
        return True


def is_part(text: str, whole: str) -> bool:
    r"""Return whether most of a text stands in another one, however its words are spaced.

    >>> is_part("the first\n\nand the second", "Of it: the first and the second. And more.")
    True
    """
    text, whole = (re.sub(r"\s+", " ", each).strip() for each in (text, whole))
    last = max(0, len(text) - _PASSAGE_CHARACTERS)
    starts = np.unique(np.linspace(0, last, _PASSAGES, dtype=np.int_))
    found = [text[start : start + _PASSAGE_CHARACTERS] in whole for start in starts]
    return 2 * sum(found) > len(found)
