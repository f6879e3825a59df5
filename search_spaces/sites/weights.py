"""The weights of a sub-block as a choice: whether its matrices can be as sparse as asked."""

from collections.abc import Mapping, Sequence

from search_spaces.patterns import Pattern
from search_spaces.structure.sub_block import SubBlock


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
