"""What a ranking is: an importance for each unit of a component, from declared statistics."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class UnitImportance(Protocol):
    """Scores the units of a component by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected for every projection before `importance` is asked."""
        ...

    @property
    def comparable(self) -> bool:
        """Whether importances can be compared across components, or inside of one only."""
        ...

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """Score units; the lowest die first.

        Args:
            component: The component.
            weights: Matrix ``(rows, columns)`` of each projection, by path.
            statistics: Of the component's layer.

        Returns:
            Importance ``(units,)``.
        """
        ...


class LayerImportance(Protocol):
    """Scores whole layers, and attentions and MLPs, by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected before `importance` is asked."""
        ...

    def importance(self, statistics: Statistics, part: str) -> float:
        """Score a layer or one of its components; the lowest go first.

        Args:
            statistics: Of the layer.
            part: ``attention`` or ``mlp``; empty: the whole layer.

        Returns:
            Importance, comparable across layers and parts, not negative.
        """
        ...


class ExpertImportance(Protocol):
    """Says how much each expert of a mixture matters."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected before `importance` is asked."""
        ...

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """Score the experts of one mixture.

        Args:
            component: The mixture; its `experts` are not None.
            weights: The stacks and the router's rows by their paths inside the layer, as stored,
                in float32.
            statistics: Of its layer, as `statistics` asks.

        Returns:
            Importance, ``(experts,)``, finite; the least important goes first. An expert to which
            no token was sent has the least of all.
        """
        ...
