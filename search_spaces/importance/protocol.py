"""What an importance criterion is: a score of each unit, from the statistics that it declares."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class UnitImportance(Protocol):
    """Scores the units of a component by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected of every projection before `importance` is called."""
        ...

    @property
    def comparable(self) -> bool:
        """Whether importances can be compared across components, or within one only."""
        ...

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """Score units; the lowest are pruned first.

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
        """What must be collected before `importance` is called."""
        ...

    def importance(self, statistics: Statistics, part: str) -> float:
        """Score a layer or one of its components; the lowest are pruned first.

        Args:
            statistics: Of the layer.
            part: ``attention`` or ``mlp``; empty: the whole layer.

        Returns:
            Importance, comparable across layers and parts, not negative.
        """
        ...


class ExpertImportance(Protocol):
    """Scores the experts of a mixture by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected before `importance` is called."""
        ...

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """Score the experts of one mixture.

        Args:
            component: The mixture.
            weights: The stacks and the router's rows by their paths inside the layer, as stored,
                in float32.
            statistics: Of its layer, as `statistics` asks.

        Returns:
            Importance, ``(experts,)``, finite; the least important is pruned first. An expert
            to which no token was sent has the least of all.
        """
        ...
