"""What the planner knows of one attention or MLP: its units, and where their weights lie."""

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
    """Inside the layer, such as ``self_attn.q_proj``."""
    side: Literal["rows", "columns"]
    units: NDArray[np.int_]
    """The unit of each row or column, ``(features,)``."""

    @property
    def by_unit(self) -> NDArray[np.int_]:
        """The rows or columns of each unit, ascending, ``(units, features for each unit)``."""
        return np.argsort(self.units, kind="stable").reshape(int(self.units.max()) + 1, -1)

    def sorted_features(self, order: NDArray[np.int_]) -> NDArray[np.int_]:
        """Give the row or column that lies in each place once the units are sorted.

        Args:
            order: Units from the last to go to the first to go, ``(units,)``.

        Returns:
            ``(features,)``
        """
        features = self.by_unit
        places = np.empty(len(self.units), dtype=np.int_)
        places[features] = features[order]
        return places

    def first(self, count: int) -> NDArray[np.int_]:
        """Give the rows or columns of the first units, ascending: of the sorted model, what stays.

        Args:
            count: How many units.
        """
        return np.flatnonzero(self.units < count)


@dataclass(frozen=True, kw_only=True)
class Component:
    """The attention of a layer, its MLP, or the experts or shared expert that stand for one.

    The smallest thing that can be dropped whole.
    """

    kind: ComponentKind
    layer: int
    unit_count: int
    projections: tuple[Projection, ...]
    module: str
    """Path inside the layer of the module that holds the projections; empty: the layer itself."""
    returns: int = 1
    """How many values that module returns; 1 stands for a bare tensor."""
    private: tuple[str, ...] = ()
    """Paths inside the layer of norms that do nothing once the component is dropped."""
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Integers its forward reads that must follow the width: name → amount for each unit."""
    cached_features: int = 0
    """Key and value features that one unit adds to the cache for each token."""
    core_features: int = 0
    """Multiply–accumulates of scores and values, for each unit, token and token attended to."""
    experts: Experts | None = None
    """What else is known of a mixture of experts, which has no projections."""
    group_count: int = 1
    """Groups of members of which each keeps as many: a unit is one member of each group. Experts
    have some where their router chooses groups first; members of a group lie side by side."""

    @property
    def name(self) -> str:
        return f"layers.{self.layer}.{self.kind}"

    @property
    def mixture(self) -> Experts:
        """What is known of it as a mixture of experts, which it must be."""
        assert self.experts is not None, f"`{self.name}` has no experts"
        return self.experts

    @property
    def member_count(self) -> int:
        """What a plan names and an order sorts: units, or the experts of all groups."""
        return self.unit_count * self.group_count

    def members(self, order: NDArray[np.int_], count: int) -> NDArray[np.int_]:
        """Give the members that stay where so many units do, group by group.

        Args:
            order: Members from the last to go to the first to go within each group,
                ``(members,)``.
            count: Units that stay.
        """
        return order.reshape(self.group_count, -1)[:, :count].ravel()
