"""Members of a population that are given up while it is scored."""

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluators.backends.handover import Handover
from evaluators.backends.work import Work
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import Members, PrefixTree
from search_spaces.structure.backbone import LayerCall
from search_spaces.surgery.sort import sorted_as_is
from tests.evaluators.scoring.small_models import candidates, llama
from tests.models import tiny
from tests.models.streamed import opened, save_sharded


def handover(count: int, shared: float = 0.0) -> Handover:
    """Of members that each take 1, and some more that each shares with the one before it."""
    return Handover(count, Work(alone=np.full(count, 1.0 + shared), beyond=np.ones(count)))


def test_of_what_is_begun_the_later_half_is_given_up() -> None:
    given = handover(8)
    assert given.keep(np.arange(8), False).tolist() == list(range(8))
    assert given.keep(np.array([0, 1]), True).tolist() == [0, 1]
    # 2 is being run, 3 to 7 are left
    assert given.give_up() == [5, 6, 7]
    assert given.keep(np.arange(2, 8), True).tolist() == [2, 3, 4]
    assert given.give_up() == []


@pytest.mark.parametrize(("shared", "left"), [(0.0, [5, 6, 7]), (2.0, [6, 7]), (5.0, [])])
def test_no_more_than_makes_both_be_done_sooner(shared: float, left: list[int]) -> None:
    """All six that are left take 5.5, of which half of the first one is done."""
    given = handover(8, shared)
    given.keep(np.array([0, 1]), True)
    assert given.give_up() == left


def test_what_is_not_begun_is_given_up_whole_and_once() -> None:
    for given in (handover(3), Handover(3, None)):
        assert given.give_up() == [0, 1, 2]
        assert given.give_up() == []
        assert given.keep(np.arange(3), True).tolist() == []


def test_what_is_begun_together_is_not_given_up() -> None:
    given = Handover(3, None)
    given.keep(np.arange(3), True)
    assert given.give_up() == []


def test_a_tree_leaves_out_what_is_given_up_before_it_comes_to_it() -> None:
    structure, counts, given = llama(), candidates(llama(), 6), handover(6)
    tree, inputs = PrefixTree(sorted_as_is(structure)), structure.backbone.enter(tiny.windows())
    expected = dict(tree.walk(counts, inputs))
    given.keep(np.arange(6), False)
    left = given.give_up()
    assert left == [3, 4, 5]
    found = dict(tree.walk(counts, inputs, keep=given.keep))
    assert sorted(found) == [0, 1, 2]
    assert all(torch.equal(final, expected[member]) for member, final in found.items())


@pytest.mark.parametrize("batch_tokens", [96, 24])
def test_scores_of_those_that_stay_are_whole_and_the_same(
    batch_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several batches, members are given up on the first one."""
    counts, given, left = candidates(llama(), 5), handover(5), list[int]()
    fidelity = Fidelity(batch_tokens=batch_tokens)
    expected = dict(Evaluator(sorted_as_is(llama()), tiny.windows(8), fidelity).score(counts))
    backbone = llama().backbone
    run_layer = backbone.run_layer

    def interrupted(layer: torch.nn.Module, hidden: torch.Tensor, call: LayerCall) -> torch.Tensor:
        left.extend(given.give_up())
        return run_layer(layer, hidden, call)

    judge = Evaluator(sorted_as_is(llama()), tiny.windows(8), fidelity)
    list(judge.score(counts[:1]))  # the dense model's side is there
    monkeypatch.setattr(backbone, "run_layer", interrupted)
    found = dict(judge.score(counts, keep=given.keep))
    assert left
    assert sorted([*found, *left]) == [0, 1, 2, 3, 4]
    for member, score in found.items():
        values = score.by_window["kl"]
        assert values.tobytes() == expected[member].by_window["kl"].tobytes()


def test_who_is_given_up_is_not_tried_again_when_memory_runs_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts, given, left = candidates(llama(), 5), handover(5), list[int]()
    backbone = llama().backbone
    run_layer = backbone.run_layer
    tries: list[Members] = []

    def cramped(layer: torch.nn.Module, hidden: torch.Tensor, call: LayerCall) -> torch.Tensor:
        if len(hidden) > 4:
            left.extend(given.give_up())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return run_layer(layer, hidden, call)

    def keep(members: Members, begins: bool) -> Members:
        tries.append(members)
        return given.keep(members, begins)

    monkeypatch.setattr(backbone, "run_layer", cramped)
    found = dict(Evaluator(sorted_as_is(llama()), tiny.windows(8)).score(counts, keep=keep))
    assert left
    assert sorted([*found, *left]) == [0, 1, 2, 3, 4]
    assert max(map(max, tries)) == 4  # positions in the population, though some have landed


def test_a_streamed_model_sweeps_those_alone_that_stay(tmp_path: Path) -> None:
    save_sharded("llama", tmp_path)
    sorted_model = sorted_as_is(opened(tmp_path, "always").structure)
    counts, given = candidates(sorted_model.structure, 6), handover(6)
    expected = dict(Evaluator(sorted_model, tiny.windows(8)).score(counts))
    given.keep(np.arange(6), False)
    left = given.give_up()
    found = dict(Evaluator(sorted_model, tiny.windows(8)).score(counts, keep=given.keep))
    assert left
    assert sorted([*found, *left]) == list(range(6))
    for member, score in found.items():
        assert score.seconds > 0.0
        values = score.by_window["kl"]
        assert values.tobytes() == expected[member].by_window["kl"].tobytes()
