"""The form of a sub-block in one number: how many units it keeps, and how they are thinned out.

A form below ``unit_count + 1`` is the number of units kept, all as they are; each further variant
takes as many numbers again. Dropped is 0, whatever the variant, and the dense sub-block is
``unit_count``, so that without variants a form is a count.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.structure.components import SubBlock

Forms = NDArray[np.int_]
"""Of each sub-block, ``(candidates, sub_blocks)``: attention, MLP, attention, …"""


def unit_counts(sub_blocks: Sequence[SubBlock]) -> NDArray[np.int_]:
    """Give the units of each sub-block, which are its dense form too, ``(sub_blocks,)``."""
    return np.array([block.unit_count for block in sub_blocks])


def forms_of(
    kept: NDArray[np.int_], variants: NDArray[np.int_], widths: NDArray[np.int_]
) -> Forms:
    """Put counts and variants together.

    Args:
        kept: Units kept, ``(..., sub_blocks)``.
        variants: Position of the variant among the sub-block's, ``(..., sub_blocks)``.
        widths: Units of each sub-block, ``(sub_blocks,)``.
    """
    return np.where(kept > 0, kept + variants * (widths + 1), 0)


def kept_in(forms: Forms, widths: NDArray[np.int_]) -> NDArray[np.int_]:
    """Give the units kept, ``(..., sub_blocks)``."""
    return np.asarray(forms % (widths + 1))


def variants_in(forms: Forms, widths: NDArray[np.int_]) -> NDArray[np.int_]:
    """Give the position of each variant among its sub-block's, ``(..., sub_blocks)``."""
    return np.asarray(forms // (widths + 1))
