"""Windows of tokens to search and report on: how many are asked for, and those that were drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How much text a search uses, in windows of equal length."""

    search: int
    fresh: int
    holdout: int
    tokens: int
    """In each window."""
    statistics: int = 0
    """For statistics, those of the search included; fewer if the text is short."""
    search_option: str = "--search_windows"
    """The option that sets ``search``."""

    @property
    def extra(self) -> int:
        """Windows for statistics only."""
        return max(0, self.statistics - self.search)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Disjoint token ids: to search on, and to report on."""

    search: Tensor
    """``(windows, tokens)``"""
    fresh: Tensor
    """``(windows, tokens)`` of the same text as the search's: a second draw."""
    holdout: Tensor
    """``(windows, tokens)``; no decision is ever based on them."""
    extra: Tensor
    """``(windows, tokens)`` of the search's text, for statistics only; may be empty."""
    source: str
    """Where the text came from."""
    source_digests: tuple[str, ...] = ()
    """What identifies the files of the text and of held-out text; empty: there are none."""

    @property
    def statistics(self) -> Tensor:
        """Windows for statistics: the search's and the extra ones, ``(windows, tokens)``."""
        return torch.cat([self.search, self.extra])

    def save(self, path: Path) -> None:
        """Write the tokens as ``.npz``."""
        with path.open("wb") as file:
            np.savez(
                file,
                search=self.search.numpy(),
                fresh=self.fresh.numpy(),
                holdout=self.holdout.numpy(),
                extra=self.extra.numpy(),
                source=np.array(self.source),
                source_digests=np.array(self.source_digests, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Read what `save` wrote."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(
                search=torch.from_numpy(arrays["search"]),
                fresh=torch.from_numpy(arrays["fresh"]),
                holdout=torch.from_numpy(arrays["holdout"]),
                extra=torch.from_numpy(arrays["extra"]),
                source=str(arrays["source"]),
                source_digests=tuple(map(str, np.atleast_1d(arrays["source_digests"]))),
            )
