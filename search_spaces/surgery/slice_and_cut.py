"""Smaller layers: as views of the dense weights for scoring, with their own weights for export."""

from collections.abc import Iterable
from itertools import zip_longest
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import OrderedWeights, PrunedWeights
from search_spaces.space.block_options import (
    DENSE_EXPERTS,
    DENSE_OPTIONS,
    BlockOptions,
    ExpertPruning,
)
from search_spaces.structure.components import Component
from search_spaces.structure.graft import graft
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.projections import Projections
from search_spaces.surgery.slice_experts import MixtureSurgery
from search_spaces.surgery.slice_projections import ProjectionSurgery


class Surgery(Protocol):
    """How a component of one kind is made smaller."""

    def narrow(
        self,
        dense: nn.Module,
        layer: nn.Module,
        count: int,
        options: BlockOptions,
        weights: PrunedWeights,
    ) -> nn.Module:
        """Return a layer in which the component keeps its first units, sharing all weights.

        Args:
            dense: The dense layer, its units in pruning order; it is not changed.
            layer: The layer as other components left it; it is not changed.
            count: Units that are kept, at least 1.
            options: Of these units.
            weights: Replace slices of the dense weights.
        """
        ...

    def cut(
        self,
        dense: nn.Module,
        layer: nn.Module,
        kept: NDArray[np.int_],
        inside: ExpertPruning,
        ordered: OrderedWeights | None,
    ) -> nn.Module:
        """Return a layer in which the component holds some members and nothing else.

        Args:
            dense: The dense layer, its units in the model's own order; it is not changed.
            layer: The layer as other components left it; it is not changed.
            kept: The kept members, ascending, at least one.
            inside: What each of these keeps of itself.
            ordered: What replaces slices of the sorted model; None: nothing does.
        """
        ...

    def permute_(
        self, layer: nn.Module, order: NDArray[np.int_], channels: NDArray[np.int_] | None
    ) -> None:
        """Sort members in place, and their channels before that; see `permute_`."""
        ...

    def bypass(self, path: str) -> nn.Module:
        """Return what takes the place of a private module once the component is dropped."""
        ...


def surgery_of(component: Component) -> Surgery:
    """Return how a component is made smaller: one line for each kind."""
    match component:
        case Mixture():
            return MixtureSurgery(component)
        case Projections():
            return ProjectionSurgery(component)
    raise NotImplementedError(f"nothing makes a {type(component).__name__} smaller")


# an export must load without this package, so modeling_pruned.py of planner/targets/hf/ has copies
# of `Dropped`, `LayerConfig` and `Unrouted` on purpose: a change of one is a change of both
class Dropped(nn.Module):
    """Takes the place of a dropped attention or MLP: returns zeros shaped like the hidden states.

    Args:
        returns: How many values the original returned; all but the first become None.
    """

    def __init__(self, returns: int = 1) -> None:
        super().__init__()
        self.returns = returns

    def forward(
        self, hidden_states: Tensor, *_args: object, **_kwargs: object
    ) -> Tensor | tuple[Tensor | None, ...]:
        zeros = torch.zeros_like(hidden_states)
        return zeros if self.returns == 1 else (zeros, *[None] * (self.returns - 1))


def narrowed(
    layer: nn.Module,
    choices: Iterable[tuple[Component, int]],
    weights: PrunedWeights = MappingProxyType({}),
    options: Iterable[BlockOptions] = (),
) -> nn.Module:
    """Return a layer that keeps the first units of its components, sharing all weights.

    Args:
        layer: The dense layer, its units in pruning order; it is not changed.
        choices: Each component with the number of units that it keeps; 0 drops it.
        weights: Replace slices of the dense weights, of all components together.
        options: Of the kept units of each component; empty: the dense ones.
    """
    narrow = layer
    for (component, count), kept_as in zip_longest(choices, options):
        surgery = surgery_of(component)
        narrow = (
            surgery.narrow(layer, narrow, count, kept_as or DENSE_OPTIONS, weights)
            if count
            else _without(narrow, component, surgery)
        )
    return narrow


def cut(
    layer: nn.Module,
    choices: Iterable[tuple[Component, NDArray[np.int_]]],
    ordered_weights: Iterable[OrderedWeights | None] = (),
    insides: Iterable[ExpertPruning] = (),
) -> nn.Module:
    """Return a layer that holds the kept units of its components and nothing else.

    Args:
        layer: The dense layer, its units in the model's own order; it is not changed.
        choices: Each component with the members that it keeps, ascending; an empty array drops it.
        ordered_weights: Of each component, what replaces slices of the sorted model; None: nothing
            does.
        insides: What the kept members of each component keep of themselves; empty: all.
    """
    narrow = layer
    for (component, kept), ordered, inside in zip_longest(choices, ordered_weights, insides):
        surgery = surgery_of(component)
        narrow = (
            surgery.cut(layer, narrow, kept, inside or DENSE_EXPERTS, ordered)
            if len(kept)
            else _without(narrow, component, surgery)
        )
    return narrow


def permute_(
    layer: nn.Module,
    component: Component,
    order: NDArray[np.int_],
    channels: NDArray[np.int_] | None = None,
) -> None:
    """Sort the units of a component in place, so that every width is a prefix.

    The layer computes what it computed before, up to the order of its sums.

    Args:
        layer: The layer that holds the component.
        component: The component.
        order: Members by falling importance, ``(members,)``.
        channels: The same for the channels of each member, members in their present order,
            ``(members, channels)``; None: these keep their order.
    """
    surgery_of(component).permute_(layer, order, channels)


def _without(layer: nn.Module, component: Component, surgery: Surgery) -> nn.Module:
    """Return a layer in which a component is dropped, its private norms included."""
    replacements = {path: surgery.bypass(path) for path in component.private}
    if component.module:
        return graft(layer, replacements | {component.module: Dropped(component.returns)})
    *inputs, output = component.projections
    bypassed = {p.path: nn.Identity() for p in inputs}
    return graft(layer, replacements | bypassed | {output.path: Dropped()})
