"""Where the weights of a cut layer stand in the dense model: a plan is an extract of it."""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.space.block_options import ExpertPruning
from search_spaces.surgery.slice_and_cut import cut, permute_

if TYPE_CHECKING:
    from planner.recovery.cut_plan import CutPlan


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in a larger one."""

    kept: tuple[tuple[int, Tensor], ...] = ()
    """Axes along which only some positions are kept, in the order that the small tensor has."""
    flat: Tensor | None = None
    """Flat positions of all entries, in the shape of the small tensor, if axes do not say it: each
    expert may keep other channels."""

    @classmethod
    def of(cls, labels: Tensor, shape: Sequence[int]) -> "Place":
        """Return the place of a tensor whose entries are their own flat positions.

        Args:
            labels: Flat positions in the larger tensor, in the shape of the small one.
            shape: Of the larger tensor.
        """
        flat = labels.long()
        kept = []
        whole = torch.zeros_like(flat)
        for axis, (size, stride) in enumerate(zip(shape, _strides(shape), strict=True)):
            line = flat[tuple(slice(None) if a == axis else 0 for a in range(flat.ndim))]
            positions = line // stride % size
            whole += (positions * stride).view([-1 if a == axis else 1 for a in range(flat.ndim)])
            if not torch.equal(positions, torch.arange(size)):
                kept.append((axis, positions))
        return cls(kept=tuple(kept)) if torch.equal(whole, flat) else cls(flat=flat)

    def extract(self, large: Tensor) -> Tensor:
        """Return the small tensor's part of a larger one."""
        if self.flat is not None:
            return large.reshape(-1)[self.flat.to(large.device)]
        for axis, positions in self.kept:
            large = large.index_select(axis, positions.to(large.device))
        return large

    def add_(self, large: Tensor, small: Tensor) -> None:
        """Add a small tensor to its part of a larger one, which is contiguous."""
        if self.flat is not None:
            flat = self.flat.to(large.device).reshape(-1)
            large.view(-1).index_add_(0, flat, small.reshape(-1))
        elif not self.kept:
            large += small
        else:
            (axis, positions), *others = self.kept
            index = positions.to(large.device)
            part = large.index_select(axis, index)  # a copy
            Place(kept=tuple(others)).add_(part, small)
            large.index_copy_(axis, index, part)


@torch.no_grad()
def places_of_layer(plan: "CutPlan", index: int) -> dict[str, Place]:
    """Return where the weights of a cut layer stand in the dense layer, units in its own order.

    Args:
        plan: A plan.
        index: Number of the layer.

    Returns:
        By the tensors' paths inside the layer, which they share with the dense layer's; what only
        a cut layer has, such as a bias that compensates, is not among them.
    """
    sorted_model = plan.prepared.sorted_model
    structure, orders = sorted_model.structure, sorted_model.orders
    span = structure.spans[index]
    with structure.backbone.resident(index) as dense:
        labelled = _labelled(dense)
    shapes = {name: tuple(p.shape) for name, p in labelled.named_parameters()}
    choices, insides = [], []
    for position, component in enumerate(structure.components[span], span.start):
        kept, inside = plan.kept[position], plan.plan.expert_pruning(component)
        if len(kept) and plan.stays_sorted(position):
            permute_(labelled, component, orders[position], orders.channels.get(position))
            count = len(kept) // component.group_count
            kept = component.members(np.arange(component.member_count), count)
            if inside.channels is not None:
                first = np.arange(inside.channels.shape[1])
                inside = ExpertPruning(channels=np.tile(first, (len(kept), 1)), top_k=inside.top_k)
        choices.append((component, kept))
        insides.append(inside)
    small = cut(labelled, choices, (), insides)
    return {
        name: Place.of(p.detach(), shapes[name])
        for name, p in small.named_parameters()
        if name in shapes
    }


@torch.no_grad()
def update_(layer: nn.Module, plan: "CutPlan", index: int, updates: Mapping[str, Tensor]) -> None:
    """Add updates of a dense layer's weights to those of a cut layer, as far as it keeps them.

    Args:
        layer: The cut layer.
        plan: That it was cut by.
        index: Its number.
        updates: By path, in the shapes of the dense weights.
    """
    places = places_of_layer(plan, index)
    for name, parameter in layer.named_parameters():
        if name in updates and name in places:
            change = places[name].extract(updates[name]).to(parameter.device)
            parameter.copy_(parameter.float() + change.float() * free(parameter))


def free(weight: Tensor) -> Tensor | float:
    """Return where a weight may change: zeros of a matrix are its sparsity."""
    return (weight != 0).float() if weight.ndim > 1 else 1.0


def copied_layer(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer with weights of its own, which never reads itself from disk."""
    copied = copy.deepcopy(layer)
    copied._forward_pre_hooks, copied._forward_hooks = OrderedDict(), OrderedDict()
    return copied


def _labelled(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer in which each weight is its own flat position."""
    labelled = copied_layer(layer)
    for parameter in labelled.parameters():
        # float64 tells all whole numbers up to 2**53 apart, and surgery takes no integers
        labels = torch.arange(parameter.numel(), dtype=torch.float64)
        parameter.data = labels.view(parameter.shape)
    return labelled


def _strides(shape: Sequence[int]) -> list[int]:
    return [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
