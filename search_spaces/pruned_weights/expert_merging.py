"""Experts that go are merged into those that stay, instead of being lost."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from search_spaces.statistics import MatrixStatistics, StatisticName
from search_spaces.structure.components import Component
from search_spaces.structure.experts import Experts, Stack

_Matches = dict[tuple[int, int], NDArray[np.int_]]
"""Of an expert that stays and one that joins: for each channel of the one the other's."""


class ExpertMerging:
    """Every expert that goes joins the one that stays to which it is routed most alike.

    Likeness is the cosine of the router's logits of two experts over the tokens. The channels of
    whoever joins are permuted to lie where the like channels of the other are, and the weights of
    the expert that stays become the mean of its group's, each as often as it is chosen: one that
    never is weighs nothing, and of a group that never is the one that stays is left alone.

    The router loses the rows of those that go, so that their tokens come to whichever expert that
    stays is next; the paper keeps them, and leads them to the group's one expert.

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
                sorted so that the first ones stay longest.
            counts: Units that stay, none of them 0.
            statistics: Of its experts, in the same order.

        Yields:
            For each count the stacks of the experts that stay, ``(kept, ...)`` in float32.
        """
        experts = component.mixture
        likeness = _cosines(statistics["routing_gram"])
        usage = statistics["expert_frequency"].double()
        aligned = _Alignments(experts, stacks, self._matches.setdefault(component.name, {}))
        order = np.arange(component.member_count)
        for count in counts:
            kept = component.members(order, count)
            groups = _groups(likeness, kept)
            yield {
                stack.path: torch.stack(
                    [aligned.mean(stack, staying, joining, usage) for staying, joining in groups]
                )
                for stack in experts.stacks
            }


def _cosines(gram: Tensor) -> Tensor:
    """Give the cosines of vectors whose inner products are given, 0 beside one that is zero."""
    norms = gram.double().diagonal().clamp(min=0.0).sqrt()
    scale = torch.where(norms > 0, 1.0 / norms.clamp(min=torch.finfo(norms.dtype).tiny), 0.0)
    return gram.double() * scale[:, None] * scale[None, :]


def _groups(likeness: Tensor, kept: NDArray[np.int_]) -> list[tuple[int, list[int]]]:
    """Give each expert that stays, and those that join it; of equally like ones, the first."""
    joining: dict[int, list[int]] = {int(expert): [] for expert in kept}
    for expert in range(len(likeness)):
        if expert not in joining:
            joining[int(kept[int(likeness[expert, kept].argmax())])].append(expert)
    return list(joining.items())


class _Alignments:
    """Which channel of one expert is like which of another, each pair computed once."""

    def __init__(self, experts: Experts, stacks: Mapping[str, Tensor], known: _Matches) -> None:
        self._experts = experts
        self._stacks = stacks
        self._known = known

    def mean(self, stack: Stack, staying: int, joining: Sequence[int], usage: Tensor) -> Tensor:
        """Give the mean of a group's weights in one stack, aligned to the expert that stays."""
        whole = self._stacks[stack.path]
        used = [expert for expert in (staying, *joining) if usage[expert] > 0]
        if not used or used == [staying]:
            return whole[staying]
        shares = usage[used] / usage[used].sum()
        total = torch.zeros_like(whole[staying], dtype=torch.float64)
        for expert, share in zip(used, shares.tolist(), strict=True):
            total += share * self._moved(stack, staying, expert).double()
        return total.to(whole.dtype)

    def _moved(self, stack: Stack, staying: int, joining: int) -> Tensor:
        """Give the weights of an expert with its channels where the other's are."""
        weights = self._stacks[stack.path][joining]
        if stack.axis is None or staying == joining:
            return weights
        if (staying, joining) not in self._known:
            self._known[staying, joining] = self._matched(staying, joining)
        places = stack.features(self._known[staying, joining])
        return weights.index_select(stack.axis - 1, torch.from_numpy(places).to(weights.device))

    def _matched(self, staying: int, joining: int) -> NDArray[np.int_]:
        """Give for each channel of one expert the channel of the other that takes its place."""
        inner = torch.zeros(self._experts.channel_count, self._experts.channel_count)
        for stack in self._experts.stacks:
            if stack.axis is not None:
                ours, theirs = (self._channels(stack, e) for e in (staying, joining))
                inner += (ours @ theirs.T).cpu()
        _, matched = linear_sum_assignment(inner.double().numpy(), maximize=True)
        found: NDArray[np.int_] = matched
        return found

    def _channels(self, stack: Stack, expert: int) -> Tensor:
        """Give all the weights of each channel in one stack, ``(channels, weights)``."""
        assert stack.axis is not None
        features = self._stacks[stack.path][expert].movedim(stack.axis - 1, 0)
        by_channel = np.argsort(stack.channels, kind="stable")
        chosen = features[torch.from_numpy(by_channel).to(features.device)]
        return chosen.reshape(self._experts.channel_count, -1)
