"""Making mixtures of experts smaller: as views for scoring, for real for export, and sorted."""

import copy
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.space.block_options import DENSE_OPTIONS, UNCUT, BlockOptions, ExpertCut
from search_spaces.structure.components import Component
from search_spaces.structure.expert_tensors import tensor_at
from search_spaces.structure.experts import Experts, Stack
from search_spaces.structure.linear import runs

_NOTHING: PrunedWeights = MappingProxyType({})


class ExpertSlices:
    """Stands for a stack in a narrow copy: gives an expert's weights when it is asked for them.

    Only experts that run are touched, and what is given is a view wherever the kept features are
    one run.

    Args:
        stack: Of the dense model or of a level, experts along its first axis.
        members: Positions in it of the experts that stay, ``(kept,)``.
        axis: Of the stack, along which only the first features of each run stay; none: all stay.
        features: The positions along it that stay, ascending.
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
        whole = self._stack[int(self._members[int(expert)])]
        if not self._runs:
            return whole
        pieces = [whole.narrow(self._axis, start, stop - start) for start, stop in self._runs]
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=self._axis)


class Unrouted(nn.Module):
    """Stands where the router of dropped experts was: chooses none."""

    def forward(self, _hidden_states: Tensor) -> tuple[None, None, None]:
        return None, None, None


def narrow_modules(
    layer: nn.Module,
    component: Component,
    count: int,
    options: BlockOptions = DENSE_OPTIONS,
    level: PrunedWeights = _NOTHING,
) -> dict[str, nn.Module]:
    """Give narrow copies of router and holder by their paths, sharing all weights.

    Args:
        layer: The dense layer, sorted; it stays as it is.
        component: Its experts.
        count: Units that they keep, at least 1.
        options: How these are thinned out.
        level: What takes the place of slices.
    """
    members = component.members(np.arange(component.member_count), count)
    everyone = np.arange(len(members))

    def view(stack: Stack, weight: Tensor) -> Tensor | ExpertSlices:
        own = level.get(stack.path)
        source, chosen = (weight, members) if own is None else (own.weight.to(weight), everyone)
        cut_already = own is not None or not options.channels or stack.axis is None
        if not cut_already:
            kept = stack.features(np.arange(options.channels))
            return ExpertSlices(source, chosen, stack.axis, kept)
        if np.array_equal(chosen, everyone):
            return source[: len(chosen)]
        return ExpertSlices(source, chosen)

    return _swapped(layer, component.mixture, members, view)


def cut_modules(
    layer: nn.Module,
    component: Component,
    members: NDArray[np.int_],
    thinned: ExpertCut = UNCUT,
    level: PrunedWeights = _NOTHING,
) -> dict[str, nn.Module]:
    """Give a router and a holder that own the weights of some experts and nothing else.

    Args:
        layer: The dense layer, in the order of which the members are.
        component: Its experts.
        members: Those that stay, group by group, ``(kept,)``; they keep this order.
        thinned: How they are thinned out.
        level: What takes the place of slices, already of these members and channels.
    """

    def owned(stack: Stack, weight: Tensor) -> Tensor:
        if stack.path in level:
            return level[stack.path].weight.to(weight).clone().contiguous()
        kept = weight[_index(members, weight.device)]
        axis = stack.axis
        if thinned.channels is None or axis is None:
            return kept.contiguous()
        picked = [
            expert.index_select(axis - 1, _index(stack.features(channels), weight.device))
            for expert, channels in zip(kept, thinned.channels, strict=True)
        ]
        return torch.stack(picked)

    return _swapped(layer, component.mixture, members, owned)


def set_counts(layer: nn.Module, component: Component, member_count: int, top_k: int = 0) -> None:
    """Set the integers that the forward of a narrow copy reads.

    Args:
        layer: The copy, whose router, holder and all modules around them are its own.
        component: Its experts.
        member_count: Experts that it keeps.
        top_k: Of them run for a token; 0: as many as before.
    """
    experts = component.mixture
    for path, name in experts.count_attributes:
        setattr(layer.get_submodule(path), name, member_count)
    for path, name in experts.top_k_attributes if top_k else ():
        setattr(layer.get_submodule(path), name, top_k)


def permute_experts_(
    layer: nn.Module,
    component: Component,
    order: NDArray[np.int_],
    channels: NDArray[np.int_] | None = None,
) -> None:
    """Sort the experts of a layer in place, and their channels before that.

    Args:
        layer: The layer that holds them.
        component: The experts.
        order: Those from the last to go to the first to go within each group, ``(members,)``.
        channels: Of each expert, in the order that it has now, its channels from the last to go to
            the first to go, ``(members, channels)``; none: they keep their order.
    """
    experts = component.mixture
    for stack in experts.stacks:
        weight = tensor_at(layer, stack.path)
        if channels is not None and stack.axis is not None:
            for expert, own in zip(weight, channels, strict=True):
                features = _index(stack.features(own), weight.device)
                expert.copy_(expert.index_select(stack.axis - 1, features))
        weight.copy_(weight[_index(order, weight.device)])
    for path in experts.router_rows:
        rows = tensor_at(layer, path)
        rows.copy_(rows[_index(order, rows.device)])


def _swapped(
    layer: nn.Module,
    experts: Experts,
    members: NDArray[np.int_],
    make: Callable[[Stack, Tensor], Tensor | ExpertSlices],
) -> dict[str, nn.Module]:
    """Give copies of router and holder that hold other weights."""
    router = shallow(layer.get_submodule(experts.router))
    for path in experts.router_rows:
        rows = tensor_at(layer, path)
        _put(router, path.removeprefix(f"{experts.router}."), rows[_index(members, rows.device)])
    holder = shallow(layer.get_submodule(experts.holder))
    for stack in experts.stacks:
        made = make(stack, tensor_at(layer, stack.path))
        _put(holder, stack.path.removeprefix(f"{experts.holder}."), made)
    return {experts.router: router, experts.holder: holder}


def _put(module: nn.Module, name: str, value: Tensor | ExpertSlices) -> None:
    """Put something in the place of a module's own parameter or buffer."""
    if isinstance(value, ExpertSlices):
        del module._parameters[name]
        module.__dict__[name] = value
    elif name in module._buffers:
        module._buffers[name] = value
    else:
        module._parameters[name] = nn.Parameter(value, requires_grad=False)


def shallow(module: nn.Module) -> nn.Module:
    """Copy a module that shares all that it holds, so that parts can be replaced in the copy."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied._parameters = dict(module._parameters)
    copied._buffers = dict(module._buffers)
    return copied


def _index(positions: NDArray[np.int_], device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(positions, dtype=np.int64)).to(device)
