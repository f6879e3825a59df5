"""What a search may prune, in the words of ``--space``."""

from dataclasses import dataclass
from typing import Self

from search_spaces.errors import SettingsError
from search_spaces.suggestions import suggestion

GROUPS = ("2:4", "4:8")
"""Patterns that keep so many weights of each group."""
WORDS = (
    *("heads", "channels", "drops", "layers", "stand_ins", "experts", "top_k", "sparsity"),
    *("formats", "cache", *GROUPS),
)

HELP = """What may be pruned, comma separated: heads, channels, drops (of attentions, MLPs and
experts), experts, top_k (experts that run for a token), sparsity (of weights), 2:4, 4:8; or layers
in the place of the first four; stand_ins (linear maps, folded into what is kept, in the place of
what is dropped); formats (fewer bits for weights, of each component, the embedding and the head),
cache (for keys and values)."""
"""Of a setting that holds choices."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The kinds of pruning that a search chooses among."""

    heads: bool = False
    """Key-value groups of attentions."""
    channels: bool = False
    """Channels of MLPs, and of experts: as many in each expert of a mixture."""
    drops: bool = False
    """Whole attentions, MLPs and mixtures of experts."""
    layers: bool = False
    """Whole layers; excludes the three above, and experts."""
    stand_ins: bool = False
    """Linear maps in the place of what is dropped; needs one of the two above."""
    experts: bool = False
    """Experts of mixtures."""
    top_k: bool = False
    """How many experts run for a token."""
    fractions: bool = False
    """Unstructured sparsity: a percentage of the weights."""
    formats: bool = False
    """Number formats of matrices, those of the embedding and the head too."""
    cache: bool = False
    """The number format that the whole model keeps keys and values in."""
    groups: tuple[str, ...] = ()
    """Sparsity in groups of weights, such as ``2:4``."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse words separated by commas, in any order.

        Raises:
            SettingsError: If there is none, one is unknown, or two exclude each other.
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
            stand_ins="stand_ins" in words,
            experts="experts" in words,
            top_k="top_k" in words,
            fractions="sparsity" in words,
            formats="formats" in words,
            cache="cache" in words,
            groups=tuple(group for group in GROUPS if group in words),
        )

    @property
    def sparse(self) -> bool:
        """Whether weights inside kept units may be zeroed."""
        return self.fractions or bool(self.groups)

    @property
    def rewrites(self) -> bool:
        """Whether some options leave no matrix a slice of the dense one."""
        return self.sparse or self.formats

    @property
    def cost(self) -> str:
        """The cost that all of them lower."""
        if self == Choices(cache=True):
            return "kv"
        if self.formats:
            return "packed" if self.sparse else "size"
        return "nonzero" if self.sparse else "params"

    def __str__(self) -> str:
        units = (self.heads, self.channels, self.drops, self.layers)
        flags = (*units, self.stand_ins, self.experts, self.top_k, self.fractions)
        words = zip(WORDS, (*flags, self.formats, self.cache), strict=False)
        return ",".join([*(word for word, is_chosen in words if is_chosen), *self.groups])


def _check_word(word: str) -> None:
    """Refuse an unknown word.

    Raises:
        SettingsError: If it is none of `WORDS`.
    """
    if word not in WORDS:
        rule = f"`space` must name what may be cut, got `{word}`"
        raise SettingsError(f"{rule}; {suggestion(word, WORDS)}")
