"""Merging pruned experts into the kept ones, instead of removing them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from search_spaces.statistics import MatrixStatistics, StatisticName
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture, Stack, as_mixture

_Matches = dict[tuple[int, int], NDArray[np.int_]]
"""Of a kept expert and a merged one: for each channel of the one the other's."""


class ExpertMerging:
    """Every pruned expert is merged into the kept one with the most similar routing.

    Similarity is the cosine of the router's logits of two experts over the tokens. The channels of
    a merged expert are permuted to lie where the most similar channels of the kept one are, and
    the weights of the kept expert become the mean of its group's, weighted by how often each is
    chosen: one that never is weighs nothing, and in a group that never is the kept one stays as it
    is.

    The router loses the rows of pruned experts, so that their tokens are sent to the kept expert
    with the next highest score; the paper keeps the rows, and maps them to the group's one expert.

    References:
        Li, Zhang, Yadav, Sung, Cheng, Bansal & Chen, 2024, "Merge, Then Compress: Demystify
        Efficient SMoE with Hints from Its Routing Policy" (M-SMoE). The alignment is the weight
        matching of Ainsworth, Hayase & Srinivasa, 2023, "Git Re-Basin: Merging Models modulo
        Permutation Symmetries", of one hidden layer, and so exact.
    """

    statistics: frozenset[StatisticName] = frozenset({"expert_frequency", "routing_gram"})

    def __init__(self) -> None:
        self._matches: dict[str, _Matches] = {}

    def merged(
        self,
        component: Component,
        stacks: Mapping[str, Tensor],
        counts: Sequence[int],
        statistics: MatrixStatistics,
    ) -> Iterator[Mapping[str, Tensor]]:
        """Merge the experts of one mixture at several counts.

        Args:
            component: The mixture.
            stacks: Its stacks by path, ``(experts, ...)`` in float32, the experts of each group
                sorted so that the first ones are pruned last.
            counts: Units kept, none of them 0.
            statistics: Of its experts, in the same order.

        Yields:
            For each count the stacks of the kept experts, ``(kept, ...)`` in float32.
        """
        experts = as_mixture(component)
        similarity = _cosines(statistics["routing_gram"])
        usage = statistics["expert_frequency"].double()
        aligned = _Alignments(experts, stacks, self._matches.setdefault(component.name, {}))
        order = np.arange(component.member_count)
        for count in counts:
            kept = component.members(order, count)
            groups = _groups(similarity, kept)
            yield {
                stack.path: torch.stack(
                    [aligned.mean(stack, expert, merged, usage) for expert, merged in groups]
                )
                for stack in experts.stacks
            }


def _cosines(gram: Tensor) -> Tensor:
    """Compute cosines of vectors from their inner products, 0 for a vector that is zero."""
    norms = gram.double().diagonal().clamp(min=0.0).sqrt()
    scale = torch.where(norms > 0, 1.0 / norms.clamp(min=torch.finfo(norms.dtype).tiny), 0.0)
    return gram.double() * scale[:, None] * scale[None, :]


def _groups(similarity: Tensor, kept: NDArray[np.int_]) -> list[tuple[int, list[int]]]:
    """Return each kept expert and those merged into it; of equally similar ones, the first."""
    merged: dict[int, list[int]] = {int(expert): [] for expert in kept}
    for expert in range(len(similarity)):
        if expert not in merged:
            merged[int(kept[int(similarity[expert, kept].argmax())])].append(expert)
    return list(merged.items())


class _Alignments:
    """Channel permutations that align one expert to another, each pair computed once."""

    def __init__(self, experts: Mixture, stacks: Mapping[str, Tensor], matches: _Matches) -> None:
        self._experts = experts
        self._stacks = stacks
        self._matches = matches

    def mean(self, stack: Stack, kept: int, merged: Sequence[int], usage: Tensor) -> Tensor:
        """Average a group's weights in one stack, aligned to the kept expert."""
        weights = self._stacks[stack.path]
        used = [expert for expert in (kept, *merged) if usage[expert] > 0]
        if not used or used == [kept]:
            return weights[kept]
        shares = usage[used] / usage[used].sum()
        total = torch.zeros_like(weights[kept], dtype=torch.float64)
        for expert, share in zip(used, shares.tolist(), strict=True):
            total += share * self._aligned(stack, kept, expert).double()
        return total.to(weights.dtype)

    def _aligned(self, stack: Stack, kept: int, merged: int) -> Tensor:
        """Return the weights of an expert with its channels where the kept expert's are."""
        weights = self._stacks[stack.path][merged]
        if stack.axis is None or kept == merged:
            return weights
        if (kept, merged) not in self._matches:
            self._matches[kept, merged] = self._matched(kept, merged)
        places = stack.features(self._matches[kept, merged])
        return weights.index_select(stack.axis - 1, torch.from_numpy(places).to(weights.device))

    def _matched(self, kept: int, merged: int) -> NDArray[np.int_]:
        """Match to each channel of the kept expert the most similar one of the merged expert.

        The least squared distance between all channels is the largest sum of inner products, for
        a permutation changes no norm: an assignment problem, solved exactly.
        """
        inner = torch.zeros(self._experts.channel_count, self._experts.channel_count)
        for stack in self._experts.stacks:
            if stack.axis is not None:
                kept_channels, merged_channels = (
                    self._channels(stack, expert) for expert in (kept, merged)
                )
                inner += (kept_channels @ merged_channels.T).cpu()
        _, columns = linear_sum_assignment(inner.double().numpy(), maximize=True)
        matched: NDArray[np.int_] = columns
        return matched

    def _channels(self, stack: Stack, expert: int) -> Tensor:
        """Return all the weights of each channel in one stack, ``(channels, weights)``."""
        assert stack.axis is not None
        features = self._stacks[stack.path][expert].movedim(stack.axis - 1, 0)
        by_channel = np.argsort(stack.channels, kind="stable")
        chosen = features[torch.from_numpy(by_channel).to(features.device)]
        return chosen.reshape(self._experts.channel_count, -1)
