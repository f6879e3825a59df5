"""The weights of a sub-block as a choice: which share of them is zero, or how many of a group."""

from collections.abc import Mapping, Sequence

from search_spaces.choices import Choices
from search_spaces.patterns import DENSE, Pattern
from search_spaces.structure.sub_block import SubBlock

SPARSEST = 90
"""Per cent of zeros beyond which no level goes."""
STEP = 10
"""Per cent between two levels by default."""


def sparsity_patterns(choices: Choices, step: int = STEP) -> tuple[Pattern, ...]:
    """Give the patterns to choose from, the dense one first and then by falling density.

    Args:
        choices: What may be cut.
        step: Per cent of zeros between two fractions.
    """
    fractions = range(step, SPARSEST + 1, step) if choices.fractions else ()
    found = [*(Pattern(percent=percent) for percent in fractions)]
    found += [Pattern.parse(group) for group in choices.groups]
    # groups before the fraction of the same density: they leave less choice, and cost the same
    return (DENSE, *sorted(found, key=lambda p: (-p.density, p.group == 0, p.group)))


def check_patterns(
    block: SubBlock, columns: Mapping[str, int], widths: Sequence[int], patterns: Sequence[Pattern]
) -> None:
    """Refuse groups that the matrices of a sub-block cannot be parted into.

    Args:
        block: The sub-block.
        columns: Inputs of each of its projections, by path.
        widths: Units that its levels keep.
        patterns: To choose from.

    Raises:
        SettingsError: Naming the matrix and its width.
    """
    for projection in block.projections:
        wide = columns[projection.path]
        for count in widths:
            kept = wide if projection.side == "rows" else wide * count // block.unit_count
            for pattern in patterns:
                pattern.check_fits(kept, f"layers.{block.layer}.{projection.path}")
