"""Levels of mixtures of experts: merged ones and sparse ones, made when they are asked for."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.models.memory import available_bytes
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.sparsifiers.expert_stacks import sparse_stacks
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.orders import Orders
from search_spaces.statistics import MatrixStatistics, StatisticName, Statistics
from search_spaces.structure.expert_tensors import tensor_at
from search_spaces.structure.model import ModelStructure

HELD_BYTES = 2**31
"""Of levels used last, which stay in memory; a quarter of what is free where that is less."""
_Key = tuple[int, int, BlockOptions]


class ExpertWeightBuilder:
    """Makes the weights of mixtures that are no plain slices of the dense ones.

    Merging first, at the number of experts that stay; then the channels that stay; then the zeros
    in what is left, with what was measured of the dense experts that stay.

    Args:
        structure: The model, its members sorted.
        statistics: Of each layer, in the model's own order.
        orders: In which it is sorted.
        merging: Merges experts that go into others; none: they are lost.
        sparsifier: Makes matrices sparse, by what is measured of experts; none: no pattern but the
            dense one is asked for.
        dtype: That weights are stored in: they are rounded to it, and both scored and exported so.
    """

    def __init__(
        self,
        structure: ModelStructure,
        statistics: Sequence[Statistics],
        orders: Orders,
        *,
        merging: ExpertMerging | None = None,
        sparsifier: Sparsifier | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._structure = structure
        self._blocks = structure.components
        self._statistics = statistics
        self._orders = orders
        self._merging = merging
        self._sparsifier = sparsifier
        self._dtype = dtype
        self._held: dict[_Key, PrunedWeights] = {}

    def level(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        """Give the weights of a choice by path; nothing where all are slices of the dense ones.

        Args:
            position: Of the mixture among the components.
            count: Units that it keeps.
            options: How these are thinned out.
        """
        merges = self._merging is not None and count < self._blocks[position].unit_count
        if not merges and options.pattern.is_dense:
            return {}
        # how many run changes no weight
        key = (position, count, BlockOptions(pattern=options.pattern, channels=options.channels))
        level = self._held.pop(key, None) or self._made(*key, merges=merges)
        self._held[key] = level  # the last one was used last
        while len(self._held) > 1 and _size(self._held.values()) > self._room:
            del self._held[next(iter(self._held))]
        return level

    @cached_property
    def _room(self) -> int:
        return min(HELD_BYTES, available_bytes("cpu") // 4)

    @torch.no_grad()
    def _made(
        self, position: int, count: int, options: BlockOptions, *, merges: bool
    ) -> PrunedWeights:
        component = self._blocks[position]
        experts = component.mixture
        self._statistics[
            component.layer
        ]  # may have to run the model, which must not be in use then
        measured = self._sorted(position)
        with self._structure.backbone.resident(component.layer) as layer:
            stacks: Mapping[str, Tensor] = {
                stack.path: tensor_at(layer, stack.path).float() for stack in experts.stacks
            }
        members = torch.from_numpy(component.members(np.arange(component.member_count), count))
        if merges:
            assert self._merging is not None
            (stacks,) = self._merging.merged(component, stacks, [count], measured)
        else:
            stacks = {path: stack[members] for path, stack in stacks.items()}
        kept = np.arange(options.channels or experts.channel_count)
        stacks = {
            stack.path: stacks[stack.path]
            if stack.axis is None
            else stacks[stack.path].index_select(
                stack.axis, _index(stack.features(kept)).to(stacks[stack.path].device)
            )
            for stack in experts.stacks
        }
        if not options.pattern.is_dense:
            assert self._sparsifier is not None, "no one makes experts sparse"
            own = measured.picked(experts=members.numpy(), channels=kept)
            sparse = sparse_stacks(experts, stacks, options.pattern, self._sparsifier, own)
            stacks = {**stacks, **sparse}
        return {path: LinearWeights(stack.to(self._dtype)) for path, stack in stacks.items()}

    def _sorted(self, position: int) -> MatrixStatistics:
        """Give the statistics of a mixture in the order in which it is sorted."""
        component, order = self._blocks[position], self._orders[position]
        holder = component.mixture.holder
        found = MatrixStatistics.of(self._statistics[component.layer], holder).picked(
            experts=order
        )
        name: StatisticName = "expert_channel_energy"
        if name not in found.values or position not in self._orders.channels:
            return found
        channels = _index(self._orders.channels[position][order])
        energy = found[name].gather(1, channels)
        return MatrixStatistics(tokens=found.tokens, values={**found.values, name: energy})


def _index(positions: NDArray[np.int_]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(positions, dtype=np.int64))


def _size(levels: Iterable[PrunedWeights]) -> int:
    return sum(matrix.weight.nbytes for level in levels for matrix in level.values())
