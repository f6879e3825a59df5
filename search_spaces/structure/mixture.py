"""Mixtures of experts: a router that chooses some of them for each token, and their stacks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.models.tensors import tensor_at
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import (
    Component,
    ComponentKind,
    StatisticPlace,
    UnitChoice,
    UnitWeight,
)

StackRole = Literal["up", "down", "up_bias", "down_bias"]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One kind of weight of all experts in one tensor, experts along the first axis."""

    path: str
    """Path of the parameter inside the layer, such as ``mlp.experts.gate_up_proj``."""
    role: StackRole
    """``up`` computes an expert's channels (and their gates), ``down`` reads them."""
    channels: NDArray[np.int_]
    """The channel of each feature along `axis`, ``(features,)``; empty if there is no axis."""
    transposed: bool = False
    """Whether an expert's matrix is stored as inputs by outputs."""

    @property
    def is_matrix(self) -> bool:
        return self.role in ("up", "down")

    @property
    def axis(self) -> int | None:
        """Axis of the tensor along which the channels lie; None: it has none."""
        if self.role == "down_bias":
            return None
        if self.role == "up_bias":
            return 1
        return 1 if (self.role == "up") is not self.transposed else 2

    def features(self, channels: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return the features along `axis` of some channels, laid out like those of the stack.

        >>> gates_first = np.array([0, 1, 2, 0, 1, 2])
        >>> Stack(path="", role="up", channels=gates_first).features(np.array([2, 0])).tolist()
        [2, 0, 5, 3]
        >>> interleaved = np.array([0, 0, 1, 1, 2, 2])
        >>> Stack(path="", role="up", channels=interleaved).features(np.array([2, 0])).tolist()
        [4, 5, 0, 1]

        Args:
            channels: In the order in which they are to come, ``(kept,)``.
        """
        count = int(self.channels.max()) + 1
        by_channel = np.argsort(self.channels, kind="stable").reshape(count, -1)
        features = by_channel[channels]  # (kept, features of each)
        # a channel's gate is next to it, or all gates come first
        is_interleaved = bool((np.diff(by_channel[0]) == 1).all())
        return features.ravel() if is_interleaved else features.T.ravel()

    def as_matrices(self, weight: Tensor) -> Tensor:
        """Return a view of it as matrices of outputs by inputs, ``(experts, rows, columns)``."""
        return weight.transpose(1, 2) if self.transposed else weight


@dataclass(frozen=True, kw_only=True)
class Mixture(Component):
    """Experts, and the router that chooses some of them for each token."""

    kind: ComponentKind = "experts"
    router: str
    """Path inside the layer of the module that scores and chooses."""
    holder: str
    """Path inside the layer of the module that owns the stacks; its arguments are hidden states
    ``(tokens, hidden)``, and the chosen experts and their weights ``(tokens, top_k)``."""
    router_rows: tuple[str, ...]
    """Paths inside the layer of the router's parameters and buffers, a row for each expert."""
    stacks: tuple[Stack, ...] = ()
    count_attributes: tuple[tuple[str, str], ...] = ()
    """Module path inside the layer and name of each integer that must follow the count."""
    top_k_attributes: tuple[tuple[str, str], ...] = ()
    """Module path and name of each integer that sets top-k; empty: the code fixes it."""

    def stack(self, role: StackRole) -> Stack:
        """Return the stack of a role, which must exist."""
        return next(stack for stack in self.stacks if stack.role == role)

    def stack_at(self, path: str) -> Stack:
        """Return the stack at a path inside the layer, which must exist."""
        return next(stack for stack in self.stacks if stack.path == path)

    @property
    def matrices(self) -> tuple[Stack, ...]:
        """The stacks that are no biases."""
        return tuple(stack for stack in self.stacks if stack.is_matrix)

    @property
    def least_top_k(self) -> int:
        return 1 if self.top_k_attributes else self.top_k

    @property
    def unit_choice(self) -> UnitChoice:
        return "experts"

    @property
    def paths(self) -> tuple[str, ...]:
        return self.router, self.holder

    @property
    def reader(self) -> str:
        return self.holder

    @property
    def timed_counts(self) -> tuple[int, ...]:
        return (self.lowest,)  # fewer cannot serve as many as run

    def weights(self, owner: nn.Module) -> Mapping[str, Tensor]:
        paths = [*(stack.path for stack in self.stacks), *self.router_rows]
        return {path: tensor_at(owner, path) for path in paths}

    def tensor_path(self, path: str) -> str:
        return path

    def unit_weights(self, owner: nn.Module) -> Sequence[UnitWeight]:
        stacks = [
            UnitWeight(
                path=stack.path,
                tensor=stack.as_matrices(tensor) if stack.is_matrix else tensor,
                role="matrix" if stack.is_matrix else "bias",
                side=_SIDES[stack.role],
                is_stacked=True,
            )
            for stack in self.stacks
            for tensor in [tensor_at(owner, stack.path)]
        ]
        rows = [
            UnitWeight(
                path=path,
                tensor=tensor,
                role="router",
                is_stacked=True,
                is_buffer=not isinstance(tensor, nn.Parameter),
            )
            for path in self.router_rows
            for tensor in [tensor_at(owner, path)]
        ]
        return [*rows, *stacks]

    def statistic_paths(self, place: StatisticPlace) -> tuple[str, ...]:
        return (self.holder,) if place == "experts" else ()

    @property
    def energy_statistic(self) -> tuple[StatisticName, str]:
        return "expert_channel_energy", self.holder

    def output_energy(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Tensor:
        """Return it with the router's weights inside: ``E[(g a_c)²] · ‖W_:c‖²``."""
        down = self.stack("down")
        columns = down.as_matrices(weights[down.path]).float().square().sum(dim=1)
        return columns * statistics[self.energy_statistic].to(columns)

    def matrix_inputs(
        self, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Iterator[tuple[Tensor, Tensor]]:
        energies = {
            "up": statistics["expert_input_energy", self.holder],
            "down": statistics["expert_channel_energy", self.holder],
        }
        for stack in self.matrices:
            yield stack.as_matrices(weights[stack.path]), energies[stack.role]

    @property
    def gated_path(self) -> str:
        return self.holder

    def gated(self, args: tuple[Any, ...], gate: Tensor) -> tuple[Any, ...]:
        """Multiply the routing weights.

        The router's choice is not differentiated: a gradient holds for the experts that run.
        """
        hidden, chosen, weights = args
        return hidden, chosen, weights * gate[chosen % self.unit_count]


_SIDES: Mapping[StackRole, Literal["rows", "columns"] | None] = {
    "up": "rows",
    "up_bias": "rows",
    "down": "columns",
    "down_bias": None,
}


def mixtures_of(components: Iterable[Component]) -> tuple[Mixture, ...]:
    """Return those components that are mixtures, for what is done to experts alone."""
    return tuple(component for component in components if isinstance(component, Mixture))


def as_mixture(component: Component) -> Mixture:
    """Return a component as the mixture that it must be."""
    assert isinstance(component, Mixture), f"`{component.name}` has no experts"
    return component
