"""The order in which experts are pruned: against all orders, and against what is known by hand."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.importance.experts import nested_subsets as chain
from search_spaces.importance.experts.nested_subsets import Route, turn_errors

TOKENS, HIDDEN = 20, 3


def routed(logits: Tensor, top_k: int = 2, groups: int = 1) -> Route:
    """Return a router by softmax that renormalises; with groups, it chooses one of them first."""

    def route(kept: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits[:, kept]
        if groups > 1:
            by_group = scores.reshape(len(scores), groups, -1)
            best = by_group.amax(dim=2).argmax(dim=1)
            allowed = torch.nn.functional.one_hot(best, groups).bool()
            scores = by_group.masked_fill(~allowed[..., None], float("-inf")).flatten(1)
        found = scores.topk(min(top_k, len(kept)), dim=1)
        return found.values.softmax(dim=1), found.indices

    return route


def problem(experts: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    outputs = torch.randn(experts, TOKENS, HIDDEN, generator=rng)
    outputs *= torch.rand(experts, 1, 1, generator=rng) * 3
    return outputs, torch.randn(TOKENS, experts, generator=rng)


def error(outputs: Tensor, route: Route, kept: tuple[int, ...]) -> float:
    """Compute the error of a subset as the definition says it."""

    def output(experts: Tensor) -> Tensor:
        weights, places = route(experts)
        chosen = outputs[experts[places], torch.arange(outputs.shape[1])[:, None]]
        return (weights[..., None] * chosen).sum(dim=1)

    gap = output(torch.tensor(kept)) - output(torch.arange(len(outputs)))
    return float(gap.square().sum(dim=1).mean())


def chain_of(found: np.ndarray, groups: int = 1) -> list[tuple[int, ...]]:
    """Return the subsets that sorting leaves, from all but one of each group downwards."""
    orders = np.argsort(-found.reshape(groups, -1), axis=1, kind="stable")
    size = orders.shape[1]
    return [
        tuple(sorted(int(g * size + e) for g in range(groups) for e in orders[g, :count]))
        for count in range(size - 1, 0, -1)
    ]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("top_k", [1, 2])
def test_the_chain_has_the_least_sum_of_errors_of_all_orders(seed: int, top_k: int) -> None:
    outputs, logits = problem(5, seed)
    route = routed(logits, top_k)

    def total(order: tuple[int, ...]) -> float:
        return sum(error(outputs, route, tuple(sorted(order[turn:]))) for turn in range(1, 5))

    best = min(map(total, permutations(range(5))))
    subsets = chain_of(turn_errors(outputs, route))
    assert sum(error(outputs, route, kept) for kept in subsets) == pytest.approx(best)


def test_an_experts_number_is_the_error_after_its_turn() -> None:
    outputs, logits = problem(5)
    route = routed(logits)
    found = turn_errors(outputs, route)
    assert found.dtype == np.float32
    expected = np.maximum.accumulate([error(outputs, route, kept) for kept in chain_of(found)])
    assert np.sort(found)[:-1] == pytest.approx(expected)
    dense = routed(logits)(torch.arange(5))
    weights = torch.zeros(TOKENS, 5).scatter_(1, dense[1], dense[0])
    worth = float(torch.einsum("te,eth->th", weights, outputs).square().sum(dim=1).mean())
    assert found.max() == pytest.approx(max(worth, float(expected[-1])))


def test_experts_that_are_never_chosen_are_pruned_first_at_no_cost() -> None:
    outputs, logits = problem(6)
    logits[:, [1, 4]] = -100.0
    found = turn_errors(outputs, routed(logits))
    assert set(np.argsort(found)[:2].tolist()) == {1, 4}
    assert found[[1, 4]].max() < 1e-12  # rounding in float64
    assert np.delete(found, [1, 4]).min() > 1e-3


def test_of_two_equal_experts_one_is_pruned_at_no_cost() -> None:
    outputs, logits = problem(4)
    outputs[3] = outputs[0]
    logits[:, 3] = logits[:, 0]
    outputs[1:3] *= 100  # whichever of the others goes is missed
    found = turn_errors(outputs, routed(logits, top_k=1))
    assert np.sort(found)[0] < 1e-9
    assert int(np.argmin(found)) in {0, 3}


def test_numbers_rise_from_turn_to_turn_even_where_errors_do_not() -> None:
    outputs = torch.zeros(5, TOKENS, HIDDEN)
    found = turn_errors(outputs, routed(torch.randn(TOKENS, 5)))
    assert len(set(found.tolist())) == 5
    assert (found > 0).all()


def test_a_router_keeps_as_many_experts_as_it_must() -> None:
    outputs, logits = problem(5)

    def route(kept: Tensor) -> tuple[Tensor, Tensor]:
        assert len(kept) >= 3, "it cannot choose"
        return routed(logits)(kept)

    found = turn_errors(outputs, route, lowest=3)
    free = turn_errors(outputs, routed(logits))
    stay = np.argsort(found)[2:]
    gone = np.argsort(found)[:2]
    assert set(gone) | set(stay) == set(range(5))
    weights, places = route(torch.from_numpy(np.sort(stay)))
    used = torch.zeros(3).index_add_(0, places.flatten(), weights.flatten())
    by_use = np.sort(stay)[used.argsort().numpy()]
    assert stay.tolist() == by_use.tolist(), "the most used stay longest"
    assert found[stay].min() >= free.max() * (1 - 1e-6) or found[stay].min() > found[gone].max()


def test_each_group_loses_one_expert_a_turn() -> None:
    outputs, logits = problem(8)
    route = routed(logits, groups=2)
    found = turn_errors(outputs, route, groups=2)
    first, second = np.sort(found[:4]), np.sort(found[4:])
    assert first[:3].tolist() == second[:3].tolist()
    subsets = chain_of(found, groups=2)

    def total(left: tuple[int, ...], right: tuple[int, ...]) -> float:
        return sum(
            error(outputs, route, tuple(sorted((*left[turn:], *right[turn:]))))
            for turn in range(1, 4)
        )

    orders = [
        total(left, right)
        for left in permutations(range(4))
        for right in permutations(range(4, 8))
    ]
    assert sum(error(outputs, route, kept) for kept in subsets) == pytest.approx(min(orders))


def test_of_many_experts_each_turn_takes_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, logits = problem(7)
    route = routed(logits)
    monkeypatch.setattr(chain, "EXACT_SUBSETS", 10)
    kept = tuple(range(7))
    for subset in chain_of(turn_errors(outputs, route)):
        smaller = combinations(kept, len(kept) - 1)
        best = min(error(outputs, route, candidate) for candidate in smaller)
        assert error(outputs, route, subset) == pytest.approx(best, abs=1e-6)
        kept = subset


def test_the_greedy_chain_is_close_to_the_best_with_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outputs, logits = problem(8)
    route = routed(logits, groups=2)
    exact = sum(
        error(outputs, route, kept)
        for kept in chain_of(turn_errors(outputs, route, groups=2), groups=2)
    )
    monkeypatch.setattr(chain, "EXACT_SUBSETS", 0)
    subsets = chain_of(turn_errors(outputs, route, groups=2), groups=2)
    greedy = sum(error(outputs, route, kept) for kept in subsets)
    rng = np.random.default_rng(0)
    drawn = [
        sum(
            error(outputs, route, kept)
            for kept in chain_of(np.tile(rng.random(4), 2).astype(np.float32), groups=2)
        )
        for _ in range(20)
    ]
    assert exact <= greedy < np.mean(drawn)


def test_many_experts_take_little_time() -> None:
    outputs, logits = problem(32)
    found = turn_errors(outputs, routed(logits, top_k=4), lowest=4)
    assert len(set(found.tolist())) == 32
