"""Smaller mixtures of experts: views for scoring, own weights for export; and sorting them."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.models.tensors import tensor_at
from search_spaces.pruned_weights.types import OrderedWeights, PrunedWeights
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, ExpertPruning
from search_spaces.structure.graft import graft, shallow
from search_spaces.structure.linear import as_index, runs
from search_spaces.structure.mixture import Mixture, Stack

_NOTHING: PrunedWeights = MappingProxyType({})


class ExpertSlices:
    """Takes the place of a stack in a narrow copy and slices an expert when it is indexed.

    Only experts that run are touched, and a slice is a view wherever the kept features are one
    unbroken run.

    Args:
        stack: Dense or pruned weights, experts along the first axis.
        members: Positions of the kept experts in it, ``(kept,)``.
        axis: Axis of the stack along which some features are kept; None: all are.
        features: Positions of the kept features along it, ascending.
    """

    def __init__(
        self,
        stack: Tensor,
        members: NDArray[np.int_],
        axis: int | None = None,
        features: NDArray[np.int_] | None = None,
    ) -> None:
        self._stack = stack
        self._members = members
        self._axis = 0 if axis is None else axis - 1
        self._runs: list[tuple[int, int]] = []
        if axis is not None and features is not None:
            self._runs = runs(np.isin(np.arange(stack.shape[axis]), features))

    def __getitem__(self, expert: Tensor | int) -> Tensor:
        weight = self._stack[int(self._members[int(expert)])]
        if not self._runs:
            return weight
        pieces = [weight.narrow(self._axis, start, stop - start) for start, stop in self._runs]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=self._axis)


# exports bring their own copy, in planner/targets/hf/modeling_pruned.py: see `Dropped`
class Unrouted(nn.Module):
    """Takes the place of the router of dropped experts and chooses none."""

    def forward(self, _hidden_states: Tensor) -> tuple[None, None, None]:
        return None, None, None


@dataclass(frozen=True)
class MixtureSurgery:
    """Makes a router and its experts smaller, expert by expert and channel by channel."""

    component: Mixture

    def narrow(
        self,
        dense: nn.Module,
        layer: nn.Module,
        count: int,
        options: BlockOptions,
        weights: PrunedWeights,
    ) -> nn.Module:
        mixture = self.component
        is_replaced = any(stack.path in weights for stack in mixture.stacks)
        is_whole = count == mixture.unit_count and not options.channels and not is_replaced
        if is_whole and not options.top_k:
            return layer
        narrow = graft(layer, narrow_modules(dense, mixture, count, options, weights))
        set_counts(narrow, mixture, count * mixture.group_count, options.top_k)
        return narrow

    def cut(
        self,
        dense: nn.Module,
        layer: nn.Module,
        kept: NDArray[np.int_],
        inside: ExpertPruning,
        ordered: OrderedWeights | None,
    ) -> nn.Module:
        mixture = self.component
        members, weights = kept, ordered.weights if ordered else {}
        if ordered and weights:  # all experts are replaced, and may stay sorted
            members = mixture.members(ordered.order, len(kept) // mixture.group_count)
            assert set(members) == set(kept), f"the weights of {mixture.name} are of another order"
        narrow = graft(layer, _cut_modules(dense, mixture, members, inside, weights))
        set_counts(narrow, mixture, len(kept), inside.top_k)
        return narrow

    def permute_(
        self, layer: nn.Module, order: NDArray[np.int_], channels: NDArray[np.int_] | None
    ) -> None:
        mixture = self.component
        for stack in mixture.stacks:
            weight = tensor_at(layer, stack.path)
            if channels is not None and stack.axis is not None:
                for expert, channel_order in zip(weight, channels, strict=True):
                    features = as_index(stack.features(channel_order)).to(weight.device)
                    expert.copy_(expert.index_select(stack.axis - 1, features))
            weight.copy_(weight[as_index(order).to(weight.device)])
        for path in mixture.router_rows:
            rows = tensor_at(layer, path)
            rows.copy_(rows[as_index(order).to(rows.device)])

    def bypass(self, path: str) -> nn.Module:
        return Unrouted() if path == self.component.router else nn.Identity()


def narrow_modules(
    layer: nn.Module,
    mixture: Mixture,
    count: int,
    options: BlockOptions = DENSE_OPTIONS,
    weights: PrunedWeights = _NOTHING,
) -> dict[str, nn.Module]:
    """Return narrow copies of router and holder by their paths, sharing all weights.

    Args:
        layer: The dense layer, its units in pruning order; it is not changed.
        mixture: Its experts.
        count: Units that they keep, at least 1.
        options: Of these units.
        weights: Replace slices of the dense weights.
    """
    members = mixture.members(np.arange(mixture.member_count), count)
    first_ones = np.arange(len(members))

    def view(stack: Stack, weight: Tensor) -> Tensor | ExpertSlices:
        replacement = weights.get(stack.path)
        if replacement is not None:  # already of these members and channels
            return replacement.weight.to(weight)[: len(members)]
        if options.channels and stack.axis is not None:
            kept_features = stack.features(np.arange(options.channels))
            return ExpertSlices(weight, members, stack.axis, kept_features)
        if np.array_equal(members, first_ones):
            return weight[: len(members)]
        return ExpertSlices(weight, members)

    return _swapped(layer, mixture, members, view)


def _cut_modules(
    layer: nn.Module,
    mixture: Mixture,
    members: NDArray[np.int_],
    inside: ExpertPruning,
    weights: PrunedWeights,
) -> dict[str, nn.Module]:
    """Return a router and a holder that own the weights of some experts and nothing else.

    Args:
        layer: The dense layer, whose order the members are numbered in.
        mixture: Its experts.
        members: The kept ones, group by group, ``(kept,)``; they keep this order.
        inside: What each of them keeps of itself.
        weights: Replace slices; already of these members and channels.
    """

    def owned(stack: Stack, weight: Tensor) -> Tensor:
        if stack.path in weights:
            return weights[stack.path].weight.to(weight).clone().contiguous()
        experts = weight[as_index(members).to(weight.device)]
        axis = stack.axis
        if inside.channels is None or axis is None:
            return experts.contiguous()
        narrow_experts = [
            expert.index_select(axis - 1, as_index(stack.features(channels)).to(weight.device))
            for expert, channels in zip(experts, inside.channels, strict=True)
        ]
        return torch.stack(narrow_experts)

    return _swapped(layer, mixture, members, owned)


def set_counts(layer: nn.Module, mixture: Mixture, member_count: int, top_k: int = 0) -> None:
    """Set the integers that the forward of a narrow copy reads.

    Args:
        layer: The copy; its router, its holder and the modules around them are shared with none.
        mixture: Its experts.
        member_count: Experts that it keeps.
        top_k: Experts that run for a token; 0: as many as before.
    """
    for path, name in mixture.count_attributes:
        setattr(layer.get_submodule(path), name, member_count)
    for path, name in mixture.top_k_attributes if top_k else ():
        setattr(layer.get_submodule(path), name, top_k)


def _swapped(
    layer: nn.Module,
    mixture: Mixture,
    members: NDArray[np.int_],
    make: Callable[[Stack, Tensor], Tensor | ExpertSlices],
) -> dict[str, nn.Module]:
    """Return copies of router and holder that hold other weights."""
    router = shallow(layer.get_submodule(mixture.router))
    for path in mixture.router_rows:
        rows = tensor_at(layer, path)
        _put(
            router,
            path.removeprefix(f"{mixture.router}."),
            rows[as_index(members).to(rows.device)],
        )
    holder = shallow(layer.get_submodule(mixture.holder))
    for stack in mixture.stacks:
        value = make(stack, tensor_at(layer, stack.path))
        _put(holder, stack.path.removeprefix(f"{mixture.holder}."), value)
    return {mixture.router: router, mixture.holder: holder}


def _put(module: nn.Module, name: str, value: Tensor | ExpertSlices) -> None:
    """Replace a module's own parameter or buffer."""
    if isinstance(value, ExpertSlices):
        del module._parameters[name]
        module.__dict__[name] = value
    elif name in module._buffers:
        module._buffers[name] = value
    else:
        module._parameters[name] = nn.Parameter(value, requires_grad=False)
