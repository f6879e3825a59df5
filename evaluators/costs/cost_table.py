"""The shape of a cost: one table a component by configuration, one value a standing layer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Configurations, ConfigurationTable
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

Floats = NDArray[np.float64]
ComponentOptions = Sequence[Sequence[BlockOptions]]
"""For each component its options, the dense one first."""
WeightCost = Callable[[Tensor], float]
"""What one weight tensor costs; must be proportional to its size."""


@dataclass(frozen=True, kw_only=True)
class CostTable:
    """One cost metric of one model, by component, layer and rest."""

    tables: tuple[Floats, ...]
    """For each component its cost in each configuration, ``(configurations,)``."""
    shared: Floats
    """For each layer that still stands: what no component owns alone, ``(layers,)``."""
    rest: float
    """For everything outside the layers."""


def tabulated(
    structure: ModelStructure,
    block_options: ComponentOptions,
    table: Callable[[Component, Sequence[BlockOptions]], Floats],
) -> tuple[Floats, ...]:
    """Return the table of each component, as a `CostTable` holds it; equal ones share an array.

    Args:
        structure: The model.
        block_options: For each component its options, the dense one first.
        table: Computes the costs of a component with its options, which broadcast to
            ``(options, units + 1)``: a single row if they cost the same.
    """
    distinct: dict[bytes, Floats] = {}
    tables = []
    for component, options in zip(structure.components, block_options, strict=True):
        shape = len(options), component.unit_count + 1
        costs = np.broadcast_to(table(component, options), shape)
        rows = ConfigurationTable(component.unit_count, tuple(options))
        by_configuration = costs[rows.options_index, rows.units]
        tables.append(distinct.setdefault(by_configuration.tobytes(), by_configuration))
    return tuple(tables)


def proportional(unit_count: int, each: float, standing: float = 0.0) -> Floats:
    """Return a table ``(units + 1,)``: a cost for each unit kept, and one for keeping any.

    Example:
        >>> proportional(3, 2.0, standing=1.0)
        array([0., 3., 5., 7.])
    """
    kept_counts = np.arange(unit_count + 1)
    table: Floats = each * kept_counts + standing * (kept_counts > 0)
    return table


def total(
    cost_table: CostTable, structure: ModelStructure, configurations: Configurations
) -> Floats:
    """Add up the cost of candidates.

    Args:
        cost_table: The cost by component, layer and rest.
        structure: The model.
        configurations: ``(candidates, components)``

    Returns:
        ``(candidates,)``
    """
    permanent = np.array([not layer.vanishes for layer in structure.layers])
    kept = np.pad(np.cumsum(configurations > 0, axis=1), ((0, 0), (1, 0)))  # before each component
    starts, stops = zip(*((span.start, span.stop) for span in structure.spans), strict=True)
    standing = (kept[:, stops] > kept[:, starts]) | permanent
    costs: Floats = standing @ cost_table.shared + cost_table.rest
    for table, configuration in zip(cost_table.tables, configurations.T, strict=True):
        costs += table[configuration]
    return costs
