"""What a restriction costs: plans of two runs at the same costs, on held-out text."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from planner.reports.sentences import equal_cost_sentence
from planner.reports.tables import equal_cost_table
from planner.results.equal_cost import MOST_POINTS, at_equal_cost
from planner.run import Run
from planner.runs.metadata import RunMetadata
from search_spaces.errors import RunError
from search_spaces.models.identity import SourceIdentity
from tests.problems.toy_search import DENSE, SETTINGS, evaluation, rescored

MODEL = SourceIdentity(architecture="A", fingerprint="abc", params=1000, tokenizer="a")
ALL, HALF, NONE = (3,) * 8, (0, 3) * 4, (0,) * 8
LEVELS = [(3,) * kept + (0,) * (8 - kept) for kept in range(8)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def made(
    stack: ExitStack, folder: Path, kls: dict[tuple[int, ...], float], error: float = 0.1
) -> Run:
    """A run whose front has these KL on held-out text."""
    run = stack.enter_context(Run.create(folder, SETTINGS))
    run.record_metadata(RunMetadata(dense=DENSE, cost_names=("params",), model=MODEL))
    for genome, kl in kls.items():
        plan = evaluation(genome)
        run.record(plan)
        run.record_rescore(plan.plan_id, "holdout", rescored(kl, error))
    return run


def test_each_plan_meets_the_best_that_costs_no_more(stack: ExitStack, tmp_path: Path) -> None:
    ours = made(stack, tmp_path / "ours", {ALL: 0.0, HALF: 2.0, NONE: 4.0})
    theirs = made(stack, tmp_path / "theirs", {ALL: 0.0, HALF: 1.0, NONE: 3.95})
    found = at_equal_cost(ours, theirs)
    assert [each.ours.genome for each in found] == [HALF, NONE]
    assert [each.theirs.genome for each in found] == [HALF, NONE]
    assert [each.excess.value for each in found] == pytest.approx([1.0, 0.05])
    assert [each.verdict for each in found] == ["better", "perhaps"]
    share = evaluation(HALF).costs["params"] / DENSE["params"]
    assert found[0].shares == pytest.approx((share,))
    said = equal_cost_sentence(ours, theirs, found)
    assert "significantly more at 1 of 2 plans, at most by 1.000 ± " in said
    assert f"at {share:.3f}x params" in said
    rows = equal_cost_table(found, ("params",)).plain.splitlines()
    assert len(rows) == 3
    assert rows[1].split()[:3] == [found[0].ours.plan_id, found[0].theirs.plan_id, f"{share:.3f}x"]


def test_a_cheaper_plan_stands_for_one_that_the_other_run_lacks(
    stack: ExitStack, tmp_path: Path
) -> None:
    ours = made(stack, tmp_path / "ours", {HALF: 2.0})
    theirs = made(stack, tmp_path / "theirs", {ALL: 0.0, NONE: 1.5})
    (each,) = at_equal_cost(ours, theirs)
    assert (each.ours.genome, each.theirs.genome) == (HALF, NONE)
    assert at_equal_cost(theirs, ours) == []  # the dense plan is left out, the other is cheaper


def test_where_nothing_costs_so_little_nothing_is_compared(
    stack: ExitStack, tmp_path: Path
) -> None:
    ours = made(stack, tmp_path / "ours", {NONE: 2.0})
    theirs = made(stack, tmp_path / "theirs", {HALF: 1.0})
    assert at_equal_cost(ours, theirs) == []
    assert "no plan of" in equal_cost_sentence(ours, theirs, [])


def test_many_plans_are_compared_at_a_few_costs(stack: ExitStack, tmp_path: Path) -> None:
    ours = made(stack, tmp_path / "ours", dict.fromkeys(LEVELS, 1.0))
    shares = [each.shares[0] for each in at_equal_cost(ours, ours)]
    assert 3 < len(shares) <= MOST_POINTS
    assert shares == sorted(shares, reverse=True)
    fronts = [plan.costs["params"] / DENSE["params"] for plan in ours.front_plans()]
    assert (shares[0], shares[-1]) == pytest.approx((max(fronts), min(fronts)))


def test_other_text_is_refused(stack: ExitStack, tmp_path: Path) -> None:
    ours = made(stack, tmp_path / "ours", {HALF: 1.0})
    theirs = made(stack, tmp_path / "theirs", {HALF: 1.0})
    theirs.record_metadata(RunMetadata(text="other.txt"))
    with pytest.raises(RunError, match="the same text"):
        at_equal_cost(ours, theirs)
