"""Components of a layer: their units, and the rows and columns that belong to each unit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.structure.experts import Experts

ComponentKind = Literal["attention", "mlp", "experts", "shared"]


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A linear layer whose rows (outputs) or columns (inputs) belong to units."""

    path: str
    """Path inside the layer, such as ``self_attn.q_proj``."""
    side: Literal["rows", "columns"]
    units: NDArray[np.int_]
    """The unit of each row or column, ``(features,)``."""

    @property
    def by_unit(self) -> NDArray[np.int_]:
        """The rows or columns of each unit, ascending, ``(units, features for each unit)``."""
        return np.argsort(self.units, kind="stable").reshape(int(self.units.max()) + 1, -1)

    def sorted_features(self, order: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return the row or column at each place once the units are sorted.

        >>> projection = Projection(path="q_proj", side="rows", units=np.array([0, 0, 1, 1]))
        >>> projection.sorted_features(np.array([1, 0])).tolist()
        [2, 3, 0, 1]

        Args:
            order: Units by falling importance, ``(units,)``.

        Returns:
            ``(features,)``
        """
        features = self.by_unit
        places = np.empty(len(self.units), dtype=np.int_)
        places[features] = features[order]
        return places

    def first(self, count: int) -> NDArray[np.int_]:
        """Return the rows or columns of the first units, ascending: in a sorted model those kept.

        Args:
            count: Number of kept units.
        """
        return np.flatnonzero(self.units < count)


@dataclass(frozen=True, kw_only=True)
class Component:
    """An attention, an MLP, or the experts or shared expert that take an MLP's place.

    It is the smallest part of a layer that can be dropped whole.
    """

    kind: ComponentKind
    layer: int
    unit_count: int
    projections: tuple[Projection, ...]
    module: str
    """Path inside the layer of the module that holds the projections; empty: the layer itself."""
    returns: int = 1
    """Number of values that the module returns; 1: a bare tensor."""
    private: tuple[str, ...] = ()
    """Paths inside the layer of norms that have no effect once the component is dropped."""
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Integers its forward reads that must follow the width: name → amount for each unit."""
    cached_features: int = 0
    """Key and value features that one unit adds to the cache for each token."""
    core_features: int = 0
    """Multiply–accumulates of scores and values, for each unit, token and token attended to."""
    experts: Experts | None = None
    """Structure of a mixture of experts, which has no projections; None: it is none."""
    group_count: int = 1
    """Groups of members that all keep the same number: a unit is one member of each group. Experts
    have several where their router chooses groups first; members of a group are consecutive."""

    @property
    def name(self) -> str:
        return f"layers.{self.layer}.{self.kind}"

    @property
    def mixture(self) -> Experts:
        """Structure of the mixture of experts, which the component must be."""
        assert self.experts is not None, f"`{self.name}` has no experts"
        return self.experts

    @property
    def member_count(self) -> int:
        """Number of members, which plans and orders list: units, or the experts of all groups."""
        return self.unit_count * self.group_count

    def members(self, order: NDArray[np.int_], count: int) -> NDArray[np.int_]:
        """Return the members of the kept units, group by group.

        >>> Component(
        ...     kind="experts", layer=0, unit_count=3, projections=(), module="", group_count=2
        ... ).members(np.array([2, 0, 1, 3, 5, 4]), 2).tolist()
        [2, 0, 3, 5]

        Args:
            order: Members by falling importance within each group, ``(members,)``.
            count: Number of kept units.
        """
        return order.reshape(self.group_count, -1)[:, :count].ravel()
