"""Several recipes on a tiny saved model, under one budget."""

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluators.data.windows import Calibration
from planner import Run, compare, search
from planner.preparation.prepared_model import PreparedModel
from planner.recipes.recipe import RECIPES
from planner.recipes.recipe_comparison import RecipeComparison
from planner.reports.recipes import comparison_sentences, comparison_table, draw_comparison
from planner.runs.records import BASELINE_ROUND
from planner.runs.run_store import RunStore
from planner.searching.search_model import open_prepared
from planner.settings.search import SearchSettings
from search_spaces.errors import BudgetError, RunError, SettingsError
from search_spaces.progress import Progress
from search_spaces.space.choices import Choices
from tests.planner.workers.disturbed_search import scores

pytestmark = pytest.mark.arithmetic
BUDGET = "params<=0.8x"
SMALL: dict[str, Any] = {
    "budget": BUDGET,
    "evaluations": 8,
    "population": 4,
    "search_windows": 4,
    "window_tokens": 16,
    "fresh_windows": 2,
    "holdout_windows": 4,
}
NAMES = ("uniform", "random", "nsga2")


@pytest.fixture(scope="module")
def comparison(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> RecipeComparison:
    out = tmp_path_factory.mktemp("comparisons") / "all"
    return compare(str(saved_llama), out=out, recipes=NAMES, **SMALL)


def test_every_recipe_is_a_whole_run_under_the_same_limits(comparison: RecipeComparison) -> None:
    assert {each.recipe for each in comparison.results} == set(NAMES)
    for each in comparison.results:
        run = Run.open(comparison.folder / each.recipe)
        assert run.settings.searcher == each.recipe
        assert run.settings.evaluations == SMALL["evaluations"]
        assert run.is_finished
        assert run.spent.plans == len(run.landed()) == SMALL["evaluations"]
        assert run.spent.tokens == sum(e.score.tokens for e in run.landed())
        # a baseline that the recipe did not find would be to its credit
        assert run.baselines() == {}
        assert all(e.round != BASELINE_ROUND for e in run.landed())


def test_all_recipes_see_the_same_text_and_ranking(comparison: RecipeComparison) -> None:
    for name in ("calibration.npz", "ranking.npz"):
        files = [comparison.folder / each.recipe / name for each in comparison.results]
        assert len({file.read_bytes() for file in files}) == 1
    dense = [each.run.front().iloc[0] for each in comparison.results if each.recipe != "random"]
    assert len({row["holdout_nll"] for row in dense}) == 1


@pytest.mark.slow  # for its workers import torch
def test_workers_change_nothing(
    comparison: RecipeComparison, saved_llama: Path, tmp_path: Path
) -> None:
    settings = {**SMALL, "recipes": ("nsga2",), "workers": 2}
    by_two = compare(str(saved_llama), out=tmp_path / "two", **settings)
    assert scores(Run.open(by_two.folder / "nsga2")) == scores(
        Run.open(comparison.folder / "nsga2")
    )


def test_a_run_of_a_comparison_stands_alone(comparison: RecipeComparison, tmp_path: Path) -> None:
    shutil.copytree(comparison.folder / "nsga2", tmp_path / "moved")
    run = Run.open(tmp_path / "moved")
    folder = run.export(run.best(BUDGET).plan_id, tmp_path / "export")
    assert (folder / "manifest.json").is_file()


def test_the_table_is_sorted_by_hold_out_and_pairs_the_windows(
    comparison: RecipeComparison,
) -> None:
    table = comparison.table
    assert table["holdout_kl"].is_monotonic_increasing
    assert (table["params_x"] <= 0.8).all()
    first, *others = comparison.results
    assert first.plan is not None
    for row, each in zip(table.iloc[1:].to_dict(orient="records"), others, strict=True):
        assert each.plan is not None
        differences = np.subtract(
            each.plan.holdout["kl"].by_window, first.plan.holdout["kl"].by_window
        )
        assert len(differences) == SMALL["holdout_windows"]
        assert row["behind"] == pytest.approx(differences.mean())
        assert row["behind_se"] == pytest.approx(differences.std(ddof=1) / 2)
    saved = pd.read_csv(comparison.folder / "compare.csv")
    pd.testing.assert_frame_equal(saved, table, check_dtype=False)


def test_the_report_names_every_recipe_and_its_best_plan(
    comparison: RecipeComparison, tmp_path: Path
) -> None:
    text = comparison_table(comparison)
    lines = text.splitlines()
    assert len(lines) == 1 + len(NAMES)
    assert lines[1].startswith("→")
    for each, line in zip(comparison.results, lines[1:], strict=True):
        assert each.plan is not None
        assert each.recipe in line
        assert each.plan.plan_id in line
        assert line.count("±") == 2
    sentences = comparison_sentences(comparison)
    assert sentences.startswith(
        f"within {BUDGET} {comparison.best.recipe} is best on held-out text"
    )
    assert all(name in sentences for name in NAMES)
    assert "on the same 4 windows" in sentences
    draw_comparison(comparison, tmp_path / "compare.png")
    assert (tmp_path / "compare.png").read_bytes()[:4] == b"\x89PNG"


def test_a_recipe_without_a_plan_within_the_budget_comes_last(
    comparison: RecipeComparison,
) -> None:
    lost = replace(comparison.results[0], plan=None)
    poor = RecipeComparison(
        folder=comparison.folder, budget=comparison.budget, results=(*comparison.results[1:], lost)
    )
    assert math.isinf(lost.kl)
    assert comparison_table(poor).splitlines()[-1].split()[:2] == [lost.recipe, "none"]
    assert f"no plan within the budget: {lost.recipe}" in comparison_sentences(poor)
    nobody = RecipeComparison(folder=comparison.folder, budget=comparison.budget, results=(lost,))
    assert "no recipe came to a plan within" in comparison_sentences(nobody)
    assert "none" in comparison_table(nobody)


def test_a_killed_comparison_goes_on_and_runs_nothing_twice(
    comparison: RecipeComparison,
    saved_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
) -> None:
    out, record = tmp_path / "all", RunStore.record
    landed: list[str] = []

    def failing(self: RunStore, *scored: Any) -> None:
        if len(landed) == 11:  # in the middle of the second
            raise KeyboardInterrupt
        landed.append(self.folder.name)
        record(self, *scored)

    with monkeypatch.context() as patch:
        patch.setattr(RunStore, "record", failing)
        with pytest.raises(KeyboardInterrupt):
            compare(str(saved_llama), out=out, recipes=NAMES, **SMALL)
    assert landed == ["uniform"] * 8 + ["random"] * 3
    stopped = Run.open(out).status
    assert (stopped.state, stopped.phase) == ("stopped", "recipe random (2 of 3)")
    assert stopped.share == pytest.approx(1 / 3)
    with pytest.raises(RunError, match="got one that was stopped; go on with it") as refused:
        RecipeComparison.open(out)
    (command,) = refused.value.__notes__
    assert command.startswith(f"planner compare {saved_llama.resolve()} --budget ")
    assert command.endswith(f" --recipes {','.join(NAMES)} --out {out} --resume")
    notices.clear()
    again = compare(str(saved_llama), out=out, recipes=NAMES, resume=True, **SMALL)
    begun = [line for line in notices if line.startswith("recipe")]
    assert begun == ["recipe random (1 of 2)", "recipe nsga2 (2 of 2)"]
    assert Run.open(out).status.state == "finished"
    timed = ["seconds", "choosing_seconds"]
    pd.testing.assert_frame_equal(
        again.table.drop(columns=timed), comparison.table.drop(columns=timed)
    )


def test_a_finished_comparison_is_read_without_the_model(
    comparison: RecipeComparison, saved_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.recipes.compare.open_prepared", None)
    again = compare(str(saved_llama), out=comparison.folder, recipes=NAMES, resume=True, **SMALL)
    pd.testing.assert_frame_equal(again.table, comparison.table)


def test_a_comparison_that_was_killed_before_its_first_entry_is_begun(
    saved_llama: Path, tmp_path: Path
) -> None:
    few = {**SMALL, "evaluations": 4}
    settings = SearchSettings.checked(model=str(saved_llama.resolve()), **few)
    RunStore.create(tmp_path / "all", settings).close()
    (tmp_path / "all" / "run.sqlite").write_bytes(b"")
    begun = compare(str(saved_llama), out=tmp_path / "all", recipes="uniform", resume=True, **few)
    assert [each.recipe for each in begun.results] == ["uniform"]


def test_recipes_may_join_and_bring_a_space_of_their_own(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = RECIPES["uniform"].model_copy(update={"space": Choices.parse("layers")})
    monkeypatch.setitem(RECIPES, "layers", layers)
    few = {**SMALL, "evaluations": 4}
    compare(str(saved_llama), out=tmp_path / "all", recipes="uniform", **few)
    both = compare(
        str(saved_llama), out=tmp_path / "all", recipes="uniform,layers", resume=True, **few
    )
    genomes = {each.recipe: [e.genome for e in each.run.landed()] for each in both.results}
    assert {len(genome) for genome in genomes["uniform"]} == {12}
    assert {len(genome) for genome in genomes["layers"]} == {6}
    tokens = [Calibration.load(each.run.folder / "calibration.npz") for each in both.results]
    assert (tokens[0].holdout == tokens[1].holdout).all()


def test_recipes_are_prepared_once_for_each_preparation_on_the_same_text(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, sparsifier in (("a", "wanda"), ("b", None), ("c", "wanda")):
        recipe = RECIPES["uniform"].model_copy(update={"sparsifier": sparsifier})
        monkeypatch.setitem(RECIPES, name, recipe)
    prepared: list[tuple[str, str]] = []

    def counted(run: Run, progress: Progress, *, begun: str | None = None) -> PreparedModel:
        prepared.append((run.folder.name, run.settings.sparsifier))
        return open_prepared(run, progress, begun=begun)

    monkeypatch.setattr("planner.recipes.compare.open_prepared", counted)
    few = {**SMALL, "evaluations": 3}
    comparison = compare(str(saved_llama), out=tmp_path / "all", recipes="a,b,c", **few)
    # the comparison's own, which `b` shares, and one for both others
    assert prepared == [("all", "sparsegpt"), ("a", "wanda")]
    tokens = {(each.run.folder / "calibration.npz").read_bytes() for each in comparison.results}
    assert len(tokens) == 1
    assert all((each.run.folder / "ranking.npz").is_file() for each in comparison.results)
    assert len({each.kl for each in comparison.results}) == 1


@pytest.mark.parametrize("budget", ["kl<=0.1", None])
def test_a_budget_without_a_cost_is_refused(
    budget: str | None, saved_llama: Path, tmp_path: Path
) -> None:
    options = {**SMALL, "budget": budget}
    with pytest.raises(BudgetError, match="needs a budget with a limit on a cost"):
        compare(str(saved_llama), out=tmp_path / "all", recipes=NAMES, **options)
    assert not (tmp_path / "all").exists()


def test_a_budget_that_cannot_be_met_leaves_the_folder_free(
    saved_llama: Path, tmp_path: Path
) -> None:
    options = {**SMALL, "budget": "params<=0.01x"}
    with pytest.raises(BudgetError, match="the smallest plan of this model"):
        compare(str(saved_llama), out=tmp_path, recipes="uniform", **options)
    Run.create(tmp_path, SearchSettings(model="m")).close()


def test_a_recipe_that_cannot_meet_the_budget_is_named_before_any_is_searched(
    saved_llama: Path, tmp_path: Path
) -> None:
    said = r"recipe `sparsegpt`: `params<=0\.8x` cannot be met"
    with pytest.raises(BudgetError, match=said):
        compare(str(saved_llama), out=tmp_path / "all", recipes="uniform,sparsegpt", **SMALL)
    assert not (tmp_path / "all" / "uniform").exists()


def test_a_folder_that_holds_something_else_is_refused(
    comparison: RecipeComparison, saved_llama: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="must not hold a run already"):
        compare(str(saved_llama), out=comparison.folder, recipes=NAMES, **SMALL)
    with pytest.raises(RunError, match="must hold a comparison, got a search"):
        compare(
            str(saved_llama),
            out=comparison.folder / "nsga2",
            resume=True,
            recipes=NAMES,
            **SMALL,
        )
    with pytest.raises(RunError, match="must hold a comparison, got none"):
        RecipeComparison.open(comparison.folder / "nsga2")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="must be the folder of a run"):
        compare(str(saved_llama), out=tmp_path, resume=True, recipes=NAMES, **SMALL)
    with pytest.raises(RunError, match=r"must be new or empty, got 'notes\.txt'"):
        compare(str(saved_llama), out=tmp_path, recipes=NAMES, **SMALL)


def test_other_settings_are_another_comparison(
    comparison: RecipeComparison, saved_llama: Path
) -> None:
    options = {**SMALL, "holdout_windows": 3}
    with pytest.raises(RunError, match="`holdout_windows` was 4, now 3"):
        compare(str(saved_llama), out=comparison.folder, recipes=NAMES, resume=True, **options)


def test_the_folder_of_a_comparison_is_no_search(
    comparison: RecipeComparison, saved_llama: Path
) -> None:
    with pytest.raises(RunError, match=r"give the folder of one recipe, such as .*uniform"):
        Run.open(comparison.folder).front()
    with pytest.raises(RunError, match=r"give the folder of one recipe, such as .*uniform"):
        search(str(saved_llama), out=comparison.folder, resume=True, **SMALL)


def test_the_uniform_recipe_tries_the_largest_uniform_plan_within_the_budget(
    comparison: RecipeComparison,
) -> None:
    best = next(each.plan for each in comparison.results if each.recipe == "uniform")
    assert best is not None
    # a step of a level or two below the limit and no more
    assert 0.78 < best.costs["params"] / comparison.best.run.dense["params"] <= 0.8


def test_an_unknown_recipe_is_refused(saved_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean `uniform`"):
        compare(str(saved_llama), out=tmp_path / "all", recipes="uniorm", **SMALL)
