"""What may be cut, in the words of ``--space``."""

import difflib
from dataclasses import dataclass
from typing import Self

from search_spaces.errors import SettingsError

GROUPS = ("2:4", "4:8")
"""Patterns of so many weights kept in each group."""
WORDS = ("heads", "channels", "drops", "layers", "experts", "top_k", "sparsity", *GROUPS)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Which kinds of cuts a search chooses among."""

    heads: bool = False
    """Key-value groups of attentions."""
    channels: bool = False
    """Channels of MLPs, and of experts alike within each mixture."""
    drops: bool = False
    """Whole attentions, MLPs, and experts of a layer."""
    layers: bool = False
    """Whole layers; the three above are then not cut, nor are experts."""
    experts: bool = False
    """Experts of mixtures."""
    top_k: bool = False
    """How many experts run for a token."""
    fractions: bool = False
    """So many of a hundred weights."""
    groups: tuple[str, ...] = ()
    """So many of each group of weights, such as ``2:4``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read words with commas between them, in any order.

        Raises:
            SettingsError: Where there is none, one is wrong, or two exclude each other.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise SettingsError(
                f"`space` must name what may be cut, got nothing; choose from {', '.join(WORDS)}"
            )
        for word in words:
            _check_word(word)
        finer = [word for word in ("heads", "channels", "drops", "experts") if word in words]
        if "layers" in words and finer:
            raise SettingsError(
                f"`space` must cut whole layers or what is in them, got `layers` and `{finer[0]}`;"
                " leave out one"
            )
        return cls(
            heads="heads" in words,
            channels="channels" in words,
            drops="drops" in words,
            layers="layers" in words,
            experts="experts" in words,
            top_k="top_k" in words,
            fractions="sparsity" in words,
            groups=tuple(group for group in GROUPS if group in words),
        )

    @property
    def sparse(self) -> bool:
        """Whether weights inside of what is kept may go."""
        return self.fractions or bool(self.groups)

    def __str__(self) -> str:
        units = (self.heads, self.channels, self.drops, self.layers)
        named = (*units, self.experts, self.top_k, self.fractions)
        chosen = [word for word, is_chosen in zip(WORDS, named, strict=False) if is_chosen]
        return ",".join([*chosen, *self.groups])


def _check_word(word: str) -> None:
    """Refuse a word that is none of ours.

    Raises:
        SettingsError: Where it is.
    """
    if word not in WORDS:
        close = difflib.get_close_matches(word, WORDS, n=1)
        remedy = f"did you mean `{close[0]}`?" if close else f"choose from {', '.join(WORDS)}"
        raise SettingsError(f"`space` must name what may be cut, got `{word}`; {remedy}")
