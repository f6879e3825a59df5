"""What a layer is made of: components, their units, and what they bring to every room above."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.statistics import StatisticName, Statistics

ComponentKind = Literal["attention", "mlp", "experts", "shared", "embedding", "head"]
UnitChoice = Literal["heads", "channels", "experts"]
"""What is chosen where units are pruned, and how they are ranked."""
StatisticPlace = Literal["matrices", "gates", "experts"]
"""What a statistic is measured of: each matrix, the units' gates, or a mixture of experts."""


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

    @property
    def free_axis(self) -> int:
        """The axis of its matrix whose entries belong to no unit alone."""
        return 1 if self.side == "rows" else 0

    def summed(self, features: Tensor) -> Tensor:
        """Sum values ``(features,)`` of its rows or columns by unit: ``(units,)``."""
        positions = torch.from_numpy(self.by_unit).to(features.device)
        return features[positions].sum(dim=1)

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
class UnitWeight:
    """A weight of a component that shrinks with what is kept."""

    path: str
    """Inside the layer, of the linear layer or of the parameter."""
    tensor: Tensor
    """``(rows, columns)`` or a vector; where it is stacked, one for each member."""
    role: Literal["matrix", "bias", "router"]
    """A router's rows are one for each member, and used whether the member runs or not."""
    side: Literal["rows", "columns"] | None = None
    """Along which each matrix shrinks; None: it does not."""
    is_stacked: bool = False
    """Whether each member has its own, which shrinks with the member's channels; otherwise the
    members share one, which shrinks with their number."""
    is_buffer: bool = False


@dataclass(frozen=True, kw_only=True)
class Component(ABC):
    """The smallest part of a model that has options of its own, and its units.

    Of a layer what can be dropped whole: an attention, an MLP, or the experts or shared expert
    that take an MLP's place; and outside all layers the embedding and the head. Each kind says by
    the values and methods below all that the rooms above compute with, so that none of them asks
    which kind it has before it. Its owner is the module that its paths lie in: its layer, or the
    model.
    """

    kind: ComponentKind
    layer: int
    """Number of its layer; of what is in none, the number of layers."""
    unit_count: int
    module: str
    """Path inside the owner of the module that is dropped with it; empty: the layer itself."""
    returns: int = 1
    """Number of values that the module returns; 1: a bare tensor."""
    private: tuple[str, ...] = ()
    """Paths inside the layer of norms that have no effect once the component is dropped."""
    projections: tuple[Projection, ...] = ()
    """Linear layers whose rows or columns belong to units, the output projection last."""
    adds_output: bool = False
    """Whether the output of its last projection, times a constant, is all that it adds to the
    hidden states: linear maps of what it adds can then be folded into the projection."""
    lowest: int = 1
    """Fewest units that a component can keep without being dropped."""
    group_count: int = 1
    """Groups of members that all keep the same number: a unit is one member of each group. Experts
    have several where their router chooses groups first; members of a group are consecutive."""
    top_k: int = 0
    """Members that run for a token; 0: all, always."""
    channel_count: int = 0
    """Inner channels of each member; 0: it has none of its own."""
    attributes: Mapping[str, int] = field(default_factory=dict)
    """Integers its forward reads that must follow the width: name → amount for each unit."""
    cached_features: int = 0
    """Key and value features that one unit adds to the cache for each token."""
    core_features: int = 0
    """Multiply–accumulates of scores and values, for each unit, token and token attended to."""

    @property
    def name(self) -> str:
        return f"layers.{self.layer}.{self.kind}"

    @property
    def member_count(self) -> int:
        """Number of members, which plans and orders list: units, or the experts of all groups."""
        return self.unit_count * self.group_count

    def members(self, order: NDArray[np.int_], count: int) -> NDArray[np.int_]:
        """Return the members of the kept units, group by group.

        Args:
            order: Members by falling importance within each group, ``(members,)``.
            count: Number of kept units.
        """
        return order.reshape(self.group_count, -1)[:, :count].ravel()

    @property
    def mixes_tokens(self) -> bool:
        """Whether a token sees others through it; some such component must stay in a model."""
        return False

    @property
    def is_droppable(self) -> bool:
        """Whether a model can do without it; what cannot is in no layer, and kept whole."""
        return True

    @property
    def least_top_k(self) -> int:
        """How few members may run for a token; `top_k` where the code fixes that number."""
        return self.top_k

    @property
    @abstractmethod
    def unit_choice(self) -> UnitChoice | None:
        """What is chosen where its units are pruned; None: they are not."""

    @property
    @abstractmethod
    def paths(self) -> tuple[str, ...]:
        """Paths inside the layer of the modules that hold its units' weights."""

    @property
    @abstractmethod
    def reader(self) -> str:
        """Path of a module whose first argument is what the component reads."""

    @property
    def timed_counts(self) -> tuple[int, ...]:
        """Numbers of units that a latency table must hold, besides its usual points."""
        return ()

    @abstractmethod
    def weights(self, owner: nn.Module) -> Mapping[str, Tensor]:
        """Return what importance reads, as views by path: matrices, or stacks as stored."""

    def tensor_path(self, path: str) -> str:
        """Return the path inside its owner of the tensor that one of its weights' paths means."""
        return f"{path}.weight"

    @abstractmethod
    def unit_weights(self, owner: nn.Module) -> Sequence[UnitWeight]:
        """Return all weights of its owner that shrink with what the component keeps."""

    @abstractmethod
    def statistic_paths(self, place: StatisticPlace) -> tuple[str, ...]:
        """Return the paths under which the statistics of a place are stored."""

    @property
    @abstractmethod
    def energy_statistic(self) -> tuple[StatisticName, str]:
        """The statistic that `output_energy` reads."""

    @abstractmethod
    def output_energy(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Tensor:
        """Return the energy that each member adds to the hidden states.

        This is Wanda's score of the columns that read it, squared and summed.

        Args:
            weights: As `weights` returns them, in float32.
            statistics: Of the layer, with `energy_statistic`.

        Returns:
            Of each channel of each member, ``(members, channels)``; one channel where it has none
            of its own.

        References:
            Sun, Liu, Bair & Kolter, 2024, "A Simple and Effective Pruning Approach for Large
            Language Models" (equation 1: ``|W_ij| · ‖X_j‖``).
        """

    @abstractmethod
    def matrix_inputs(
        self, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield its matrices with the mean squares of their inputs.

        Args:
            weights: As `weights` returns them.
            statistics: Of the layer.

        Yields:
            Matrices alike ``(matrices, rows, columns)`` and ``(matrices, columns)``.
        """

    @property
    @abstractmethod
    def gated_path(self) -> str:
        """Path of the module whose arguments `gated` changes."""

    @abstractmethod
    def gated(self, args: tuple[Any, ...], gate: Tensor) -> tuple[Any, ...]:
        """Return arguments of the module at `gated_path` with each unit times its gate.

        Args:
            args: Positional ones.
            gate: ``(units,)``
        """
