"""The form of a component in one number: how many units it keeps, and how they are thinned out.

A form below ``unit_count + 1`` is the number of units kept, all as they are; each further variant
takes as many numbers again. Dropped is 0, whatever the variant, and the dense component is
``unit_count``, so that without variants a form is a count.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.structure.components import Component

Configurations = NDArray[np.int_]
"""Of each component, ``(candidates, components)``: attention, MLP, attention, …"""


def unit_counts(components: Sequence[Component]) -> NDArray[np.int_]:
    """Give the units of each component, which are its dense form too, ``(components,)``."""
    return np.array([component.unit_count for component in components])


def configurations_of(
    kept: NDArray[np.int_], block_options: NDArray[np.int_], widths: NDArray[np.int_]
) -> Configurations:
    """Put counts and variants together.

    Args:
        kept: Units kept, ``(..., components)``.
        block_options: Position of the variant among the component's, ``(..., components)``.
        widths: Units of each component, ``(components,)``.
    """
    return np.where(kept > 0, kept + block_options * (widths + 1), 0)


def units_in(configurations: Configurations, widths: NDArray[np.int_]) -> NDArray[np.int_]:
    """Give the units kept, ``(..., components)``."""
    return np.asarray(configurations % (widths + 1))


def options_in(configurations: Configurations, widths: NDArray[np.int_]) -> NDArray[np.int_]:
    """Give the position of each variant among its component's, ``(..., components)``."""
    return np.asarray(configurations // (widths + 1))
