"""The order in which the experts of a mixture go so that its output changes least."""

from collections.abc import Callable, Iterator
from itertools import product
from math import comb

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

Route = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Runs the router with some experts only, ascending ``(kept,)``: gives the weights of those that
it chooses and their places among the kept ones, both ``(tokens, top_k)``."""
EXACT_SUBSETS = 4096
"""As many subsets are all tried; of more, a greedy choice is made turn by turn."""

_Kept = tuple[int, ...]


def turn_errors(
    outputs: Tensor, route: Route, *, groups: int = 1, lowest: int = 1
) -> NDArray[np.float32]:
    """Let experts go turn by turn, one of each group, and give each the error after its turn.

    The error of a mixture with some of its experts is the squared distance of its output to that
    of the mixture with all, a mean over the tokens. Of few experts the chain of nested subsets is
    the one whose errors have the least sum; of many, each turn takes the experts whose going
    leaves the least error, chosen group by group.

    Args:
        outputs: Of every expert for every token, ``(experts, tokens, hidden)``.
        route: The mixture's own router.
        groups: Of neighbouring experts, of which each keeps as many.
        lowest: Experts of each group that never go.

    Returns:
        ``(experts,)`` in float32, not negative. It rises from turn to turn, also where the error
        falls, so that sorting by it gives the chain; those that never go have at least what the
        mixture's output is worth, and more the more they are used then. The experts of one turn
        share their number.

    References:
        Lu et al., 2024, "Not All Experts are Equal: Efficient Expert Pruning and Skipping for
        Mixture-of-Experts Large Language Models" (all subsets of one size; here nested ones).
    """
    errors = _Errors(outputs, route)
    count = len(outputs) // groups
    subsets = sum(comb(count, kept) ** groups for kept in range(lowest, count + 1))
    search = _best_chain if subsets <= EXACT_SUBSETS else _greedy_chain
    found = np.empty(len(outputs), dtype=np.float32)
    kept, reached = errors.everything, np.float32(0)
    for smaller in search(errors, groups, lowest):
        reached = _above(reached, errors(smaller))
        found[[expert for expert in kept if expert not in smaller]] = reached
        kept = smaller
    used = errors.usage(kept)
    for expert in sorted(kept, key=lambda expert: float(used[expert])):
        reached = _above(reached, errors.worth)
        found[expert] = reached
    return found


def _above(reached: np.float32, error: float) -> np.float32:
    """Give an error, or the least number above what was reached that sorts after it."""
    least = max(np.nextafter(reached, np.float32(np.inf)), np.finfo(np.float32).tiny)
    return max(least, np.float32(error))


class _Errors:
    """What subsets of the experts do to the output, each computed once."""

    def __init__(self, outputs: Tensor, route: Route) -> None:
        self.everything: _Kept = tuple(range(len(outputs)))
        self._route = route
        by_token = outputs.transpose(0, 1).double()
        # (tokens · experts, experts): what each output of a token is worth beside the others
        self._products = (by_token @ by_token.mT).flatten(0, 1)
        self._dense = self._chosen(self.everything)
        self.worth = self._energy(*self._dense)
        self._known: dict[_Kept, float] = {self.everything: 0.0}

    def usage(self, kept: _Kept) -> Tensor:
        """Give the sum of the weights that the router gives every expert, ``(experts,)``."""
        weights, experts = self._chosen(kept)
        sums = weights.new_zeros(len(self.everything))
        return sums.index_add_(0, experts.flatten(), weights.flatten())

    def __call__(self, kept: _Kept) -> float:
        if kept not in self._known:
            weights, experts = self._chosen(kept)
            dense, before = self._dense
            self._known[kept] = self._energy(
                torch.cat([weights, -dense], dim=1), torch.cat([experts, before], dim=1)
            )
        return self._known[kept]

    def _chosen(self, kept: _Kept) -> tuple[Tensor, Tensor]:
        """Give the weights of the experts that are chosen, and which, ``(tokens, top_k)``."""
        experts = torch.tensor(kept, device=self._products.device)
        weights, places = self._route(experts)
        return weights.to(self._products), experts[places]

    def _energy(self, weights: Tensor, experts: Tensor) -> float:
        """Give the mean squared norm of weighted sums of outputs, few of them for each token."""
        first = torch.arange(len(experts), device=experts.device)[:, None] * len(self.everything)
        beside = embedding_bag(
            first + experts, self._products, mode="sum", per_sample_weights=weights
        )  # (tokens, experts)
        energies = (beside.gather(1, experts) * weights).sum(dim=1)
        return max(0.0, float(energies.mean()))


def _parts(kept: _Kept, groups: int) -> list[_Kept]:
    """Give the kept experts of each group."""
    size = len(kept) // groups
    return [kept[first : first + size] for first in range(0, len(kept), size)]


def _without(kept: _Kept, gone: tuple[int, ...]) -> _Kept:
    return tuple(expert for expert in kept if expert not in gone)


def _best_chain(errors: _Errors, groups: int, lowest: int) -> Iterator[_Kept]:
    """Give the nested subsets, from the largest, whose errors have the least sum."""
    sums: dict[_Kept, float] = {errors.everything: 0.0}
    larger: dict[_Kept, _Kept] = {}
    for _ in range(len(errors.everything) // groups - lowest):
        reached: dict[_Kept, float] = {}
        for kept, total in sums.items():
            for gone in product(*_parts(kept, groups)):
                smaller = _without(kept, gone)
                candidate = total + errors(smaller)
                if candidate < reached.get(smaller, float("inf")):
                    reached[smaller], larger[smaller] = candidate, kept
        sums = reached
    kept = min(sums, key=lambda subset: sums[subset])
    chain = []
    while kept in larger:
        chain.append(kept)
        kept = larger[kept]
    yield from reversed(chain)


def _greedy_chain(errors: _Errors, groups: int, lowest: int) -> Iterator[_Kept]:
    """Give nested subsets, from the largest, each the best that one sweep over groups finds."""
    kept = errors.everything
    for _ in range(len(kept) // groups - lowest):
        used = errors.usage(kept)
        parts = _parts(kept, groups)
        gone = [min(part, key=lambda expert: float(used[expert])) for part in parts]
        for group, part in enumerate(parts):
            others = (*gone[:group], *gone[group + 1 :])
            errors_of = {expert: errors(_without(kept, (*others, expert))) for expert in part}
            gone[group] = min(part, key=lambda expert: errors_of[expert])
        kept = _without(kept, tuple(gone))
        yield kept
