"""The order of pruning a mixture's experts that changes its output least."""

from collections.abc import Callable, Iterator
from itertools import product
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

Route = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Runs the router with some experts only, ascending ``(kept,)``: returns the weights of those that
it chooses and their places among the kept ones, both ``(tokens, top_k)``."""
EXACT_SUBSETS = 4096
"""Up to so many subsets are all tried; of more, a greedy choice is made turn by turn."""

_Subset = tuple[int, ...]


def turn_errors(
    outputs: Tensor, route: Route, *, groups: int = 1, lowest: int = 1
) -> NDArray[np.float32]:
    """Prune experts turn by turn, one of each group, and return the error after each one's turn.

    The error of a mixture with some of its experts is the squared distance of its output to that
    of the mixture with all, a mean over the tokens. Of few experts the chain of nested subsets is
    the one whose errors have the least sum; of many, each turn prunes the experts without which
    the error is least, chosen group by group.

    Of one token that the router sends to the first expert that is left, and with outputs 1, 1 and
    3, the first expert is pruned for nothing, then the third, and the second is kept:

    >>> def first(kept: Tensor) -> tuple[Tensor, Tensor]:
    ...     return torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.int64)
    >>> turn_errors(torch.tensor([[[1.0]], [[1.0]], [[3.0]]]), first).argsort().tolist()
    [0, 2, 1]

    Args:
        outputs: Of every expert for every token, ``(experts, tokens, hidden)``.
        route: The mixture's own router.
        groups: Groups of neighbouring experts, of which each keeps as many.
        lowest: Experts of each group that are never pruned.

    Returns:
        ``(experts,)`` in float32, not negative. It rises from turn to turn, also where the error
        falls, so that sorting by it gives the chain; those that are never pruned have at least the
        mean squared norm of the mixture's output, and more the more they are used then. The
        experts of one turn share their number.

    References:
        Lu et al., 2024, "Not All Experts are Equal: Efficient Expert Pruning and Skipping for
        Mixture-of-Experts Large Language Models" (all subsets of one size; here nested ones).
    """
    errors = _SubsetErrors(outputs, route)
    size = len(outputs) // groups
    subset_count = sum(comb(size, kept_count) ** groups for kept_count in range(lowest, size + 1))
    search = _best_chain if subset_count <= EXACT_SUBSETS else _greedy_chain
    importance = np.empty(len(outputs), dtype=np.float32)
    kept, reached = errors.everything, np.float32(0)
    for smaller in search(errors, groups, lowest):
        reached = _above(reached, errors(smaller))
        importance[[expert for expert in kept if expert not in smaller]] = reached
        kept = smaller
    usage = errors.usage(kept)
    for expert in sorted(kept, key=lambda expert: float(usage[expert])):
        reached = _above(reached, errors.output_energy)
        importance[expert] = reached
    return importance


def _above(reached: np.float32, error: float) -> np.float32:
    """Return an error, or the least number above what was reached that sorts after it."""
    least = max(np.nextafter(reached, np.float32(np.inf)), np.finfo(np.float32).tiny)
    return max(least, np.float32(error))


class _SubsetErrors:
    """The error of the output with subsets of the experts, each computed once."""

    def __init__(self, outputs: Tensor, route: Route) -> None:
        self.everything: _Subset = tuple(range(len(outputs)))
        self._route = route
        by_token = outputs.transpose(0, 1).double()
        # inner products of a token's outputs: energies of weighted sums need no more of them
        self._products = (by_token @ by_token.mT).flatten(0, 1)  # (tokens · experts, experts)
        self._dense = self._chosen(self.everything)
        self.output_energy = self._energy(*self._dense)
        self._errors: dict[_Subset, float] = {self.everything: 0.0}

    def usage(self, kept: _Subset) -> Tensor:
        """Sum the weights that the router gives every expert, ``(experts,)``."""
        weights, experts = self._chosen(kept)
        sums = weights.new_zeros(len(self.everything))
        return sums.index_add_(0, experts.flatten(), weights.flatten())

    def __call__(self, kept: _Subset) -> float:
        if kept not in self._errors:
            weights, experts = self._chosen(kept)
            dense_weights, dense_experts = self._dense
            self._errors[kept] = self._energy(
                torch.cat([weights, -dense_weights], dim=1),
                torch.cat([experts, dense_experts], dim=1),
            )
        return self._errors[kept]

    def _chosen(self, kept: _Subset) -> tuple[Tensor, Tensor]:
        """Return the weights of the chosen experts, and which these are, ``(tokens, top_k)``."""
        experts = torch.tensor(kept, device=self._products.device)
        weights, places = self._route(experts)
        return weights.to(self._products), experts[places]

    def _energy(self, weights: Tensor, experts: Tensor) -> float:
        """Return the mean squared norm of weighted sums of outputs, few of them for each token."""
        first = torch.arange(len(experts), device=experts.device)[:, None] * len(self.everything)
        with_sum = embedding_bag(
            first + experts, self._products, mode="sum", per_sample_weights=weights
        )  # of each expert's output and the token's sum: (tokens, experts)
        energies = (with_sum.gather(1, experts) * weights).sum(dim=1)
        return max(0.0, float(energies.mean()))


def _by_group(kept: _Subset, groups: int) -> list[_Subset]:
    """Return the kept experts of each group."""
    size = len(kept) // groups
    return [kept[first : first + size] for first in range(0, len(kept), size)]


def _without(kept: _Subset, pruned: _Subset) -> _Subset:
    return tuple(expert for expert in kept if expert not in pruned)


def _best_chain(errors: _SubsetErrors, groups: int, lowest: int) -> Iterator[_Subset]:
    """Yield the nested subsets, from the largest, whose errors have the least sum.

    The least sum down to a subset follows from those of the subsets one turn larger: a shortest
    path, one size after another.
    """
    sums: dict[_Subset, float] = {errors.everything: 0.0}
    larger: dict[_Subset, _Subset] = {}
    for _ in range(len(errors.everything) // groups - lowest):
        next_sums: dict[_Subset, float] = {}
        for kept, total in sums.items():
            for pruned in product(*_by_group(kept, groups)):
                smaller = _without(kept, pruned)
                candidate = total + errors(smaller)
                if candidate < next_sums.get(smaller, float("inf")):
                    next_sums[smaller], larger[smaller] = candidate, kept
        sums = next_sums
    kept = min(sums, key=lambda subset: sums[subset])
    chain = []
    while kept in larger:
        chain.append(kept)
        kept = larger[kept]
    yield from reversed(chain)


def _greedy_chain(errors: _SubsetErrors, groups: int, lowest: int) -> Iterator[_Subset]:
    """Yield nested subsets, from the largest, each the best that one sweep over groups finds."""
    kept = errors.everything
    for _ in range(len(kept) // groups - lowest):
        usage = errors.usage(kept)
        members = _by_group(kept, groups)
        pruned = [min(group, key=lambda expert: float(usage[expert])) for group in members]
        for index, group in enumerate(members):
            others = (*pruned[:index], *pruned[index + 1 :])
            errors_of = {expert: errors(_without(kept, (*others, expert))) for expert in group}
            pruned[index] = min(group, key=lambda expert: errors_of[expert])
        kept = _without(kept, tuple(pruned))
        yield kept
