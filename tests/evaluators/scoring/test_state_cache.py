from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.state_cache import StateCache
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny

llama = cache(lambda: tiny.llama(layers=4))
STATE = 4 * 12 * 32 * 4  # windows × tokens × hidden × bytes
NEVER = 10**9


def children(parent: NDArray[np.int_], count: int, seed: int = 0) -> NDArray[np.int_]:
    """Children with one component changed."""
    rng = np.random.default_rng(seed)
    grown = np.tile(parent, (count, 1))
    for child in grown:
        site = rng.integers(len(parent))
        child[site] = (child[site] + 1) % (tiny.dense_counts(llama())[site] + 1)
    return grown


def judge(state_bytes: int = NEVER) -> Evaluator:
    return Evaluator(sorted_as_is(llama()), tiny.windows(), Fidelity(state_bytes=state_bytes))


def parent() -> NDArray[np.int_]:
    (kept,) = tiny.random_counts(llama(), 1, np.random.default_rng(1))
    return np.asarray(kept)


@pytest.mark.parametrize("state_bytes", [0, STATE, 3 * STATE, NEVER])
def test_scores_are_the_same_whatever_is_kept(state_bytes: int) -> None:
    engine, fresh = judge(state_bytes), judge(0)
    for generation in range(3):
        engine.expect(parent()[None])
        counts = children(parent(), 6, seed=generation)
        for (member, score), (other, expected) in zip(
            sorted(engine.score(counts), key=lambda pair: pair[0]),
            sorted(fresh.score(counts), key=lambda pair: pair[0]),
            strict=True,
        ):
            assert member == other
            for name, values in expected.by_window.items():
                assert np.array_equal(score.by_window[name], values)


def test_children_of_an_expected_parent_start_where_they_leave_it() -> None:
    engine = judge()
    list(engine.score(parent()[None]))
    engine.expect(parent()[None])
    list(engine.score(parent()[None]))  # passes by, so that its states can be kept
    before = engine.tree.component_runs
    late = parent().copy()
    late[-1] = 5 if parent()[-1] != 5 else 6
    list(engine.score(late[None]))
    assert engine.tree.component_runs == before + 1


def test_the_bound_on_what_is_kept_holds() -> None:
    for limit in (0, STATE, 20 * STATE):
        engine = judge(limit)
        for generation in range(3):
            list(engine.score(children(parent(), 8, seed=generation)))
            likely = children(parent(), 4, seed=9)
            engine.expect(likely)
            list(engine.score(likely))
            assert engine.states.bytes_held <= limit
        assert (engine.states.bytes_held > 5 * STATE) == (limit > STATE)


def test_what_is_kept_is_what_saves_most() -> None:
    work = [np.array([0.0, 0.5, 1.0])] * 4
    widths = np.array([2, 2, 2, 2])
    steps = PrefixTree(sorted_as_is(llama())).steps[:4]
    states = StateCache(steps, work, limit_bytes=2 * 10)
    dense = widths[None]
    for _ in range(50):  # children that leave the parent before its last step
        states.expect(dense, {0: (10, 1.0)})
        states.observe(np.array([[2, 2, 2, 1]]))
    states.expect(dense, {0: (10, 1.0)})
    for stop in range(1, 5):
        states.keeper(0)(widths[:stop], torch.zeros(1))
    _, (branch,) = states.starts(0, np.array([[2, 2, 2, 1]]))
    assert branch.depth == 3
    rest, branches = states.starts(0, np.array([[0, 2, 2, 2]]))
    assert (rest.tolist(), branches) == ([0], [])
