"""A plan is chosen by what recovery makes of it, on more and more text."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from planner.recovery.opened_run import run_to_recover
from planner.recovery.recover import recover
from planner.recovery.selection import Selector, spread_out
from planner.results.front import front
from planner.run import Run
from planner.settings.budget import Budget
from search_spaces.errors import BudgetError
from search_spaces.progress import NO_PROGRESS

BUDGET = Budget.parse("params<=0.8x")


def test_the_better_half_is_recovered_on_twice_the_text(searched_copy: Path) -> None:
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        selector = Selector(run=run, prepared=prepared, progress=NO_PROGRESS)
        assert not selector.is_chosen(BUDGET, "refit")
        plan = selector.recover_within(BUDGET, "refit", 4)
    with Run.open(searched_copy) as read:
        selection = read.metadata.selection
        found = read.find_plan(plan.plan_id)
    assert selection is not None
    assert found is not None
    assert selection.chosen == plan.plan_id
    assert (selection.budget, selection.recovery) == ("params<=0.8x", "refit")
    first, second = selection.rounds
    assert second.tokens == 2 * first.tokens
    assert list(selection.searched) == list(first.kl)
    best_two = sorted(first.kl, key=lambda plan_id: first.kl[plan_id])[:2]
    assert set(second.kl) == set(best_two)
    assert second.kl[plan.plan_id] == min(second.kl.values())
    searched = [selection.searched[plan_id] for plan_id in first.kl]
    expected = spearmanr(searched, list(first.kl.values())).statistic
    assert selection.spearman == pytest.approx(expected)
    assert all(kl <= selection.searched[plan_id] for plan_id, kl in first.kl.items())
    assert "refit" in found.recovered


def test_a_single_plan_is_the_best_as_it_was_searched(searched_copy: Path) -> None:
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        selector = Selector(run=run, prepared=prepared, progress=NO_PROGRESS)
        plan = selector.recover_within(BUDGET, "refit", 1)
        assert run.metadata.selection is None
        with pytest.raises(BudgetError):
            selector.recover_within(Budget.parse("params<=0.0001x"), "refit", 1)
    with Run.open(searched_copy) as read:
        assert plan.plan_id == read.best(BUDGET).plan_id


def test_a_recovery_that_does_not_help_is_not_kept(
    searched_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.75])
    monkeypatch.setattr("planner.recovery.recover.kl_apart", lambda *_: next(losses))
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        plan_id = run.landed()[-1].plan_id
        came_to = recover(run, prepared, plan_id, "refit", NO_PROGRESS)
        found = run.find_plan(plan_id)
    assert came_to.failure == (
        "it helped nothing: KL 0.500 before, 0.750 after on text kept apart"
    )
    assert found is not None
    assert found.recovered["refit"].failure == came_to.failure
    assert found.variants == []
    assert not (searched_copy / "recovered").exists()


def test_block_refits_on_no_more_text_than_it_is_given(searched_copy: Path) -> None:
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        plan_id = front(run.landed(), run.cost_names)[-1].plan_id
        recover(run, prepared, plan_id, "block", NO_PROGRESS, 160)
        found = run.find_plan(plan_id)
    assert found is not None
    assert {name: each.tokens for name, each in found.recovered.items()} == {
        "refit": 160,
        "block": 160,
    }


def test_weights_that_are_better_stay(
    searched_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.3, 0.5, 0.4, 0.5, 0.2])
    monkeypatch.setattr("planner.recovery.recover.kl_apart", lambda *_: next(losses))
    with run_to_recover(searched_copy, NO_PROGRESS) as (run, prepared):
        plan_id = front(run.landed(), run.cost_names)[-1].plan_id
        first = recover(run, prepared, plan_id, "refit", NO_PROGRESS)
        assert recover(run, prepared, plan_id, "refit", NO_PROGRESS, 16) == first
        third = recover(run, prepared, plan_id, "refit", NO_PROGRESS, 16)
    assert (first.failure, third.failure) == (None, None)
    assert third.tokens < first.tokens


def test_places_that_are_near_each_other_are_taken_last() -> None:
    places = np.array([[0.0, 0.0], [0.0, 0.1], [1.0, 1.0], [0.0, 1.0]])
    assert spread_out(places, 3) == [0, 2, 3]
    assert spread_out(places, 4) == [0, 1, 2, 3]
    assert spread_out(places[:1], 4) == [0]
