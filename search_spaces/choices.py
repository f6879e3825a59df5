"""What a search may cut, in words: ``heads,channels,drops,sparsity,2:4``, or whole ``layers``."""

import difflib
from dataclasses import dataclass
from typing import Self

from search_spaces.errors import SettingsError

_WORDS = ("heads", "channels", "drops", "layers", "sparsity")
_GROUPS = ("2:4", "4:8")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What may be cut."""

    heads: bool = False
    """KV groups with their query heads."""
    channels: bool = False
    """Of the MLP."""
    drops: bool = False
    """Whole attentions and whole MLPs."""
    layers: bool = False
    """Whole layers, and nothing smaller."""
    fractions: bool = False
    """Shares of the weights of each sub-block."""
    groups: tuple[str, ...] = ()
    """N of every M weights, such as ``2:4``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a list with commas.

        Raises:
            SettingsError: An unknown word, none, or layers beside something smaller.
        """
        words = [word.strip() for word in text.split(",") if word.strip()]
        known = (*_WORDS, *_GROUPS)
        for word in words:
            if word not in known:
                close = difflib.get_close_matches(word, known, n=1)
                remedy = f"did you mean `{close[0]}`?" if close else f"choose from {known}"
                raise SettingsError(
                    f"`space` must list what may be cut, got `{word[:40]}`; {remedy}"
                )
        choices = cls(
            heads="heads" in words,
            channels="channels" in words,
            drops="drops" in words,
            layers="layers" in words,
            fractions="sparsity" in words,
            groups=tuple(group for group in _GROUPS if group in words),
        )
        narrower = choices.heads or choices.channels or choices.drops
        if not words or (choices.layers and narrower):
            raise SettingsError(
                "`space` must list heads, channels, drops, sparsity and N:M, or layers in the "
                f"place of the first three, got `{text[:60]}`; leave some out"
            )
        return choices

    @property
    def sparse(self) -> bool:
        """Whether weights inside of what is kept may go."""
        return self.fractions or bool(self.groups)

    def __str__(self) -> str:
        named = (self.heads, self.channels, self.drops, self.layers, self.fractions)
        return ",".join([*(w for w, on in zip(_WORDS, named, strict=True) if on), *self.groups])
