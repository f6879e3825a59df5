"""A run that was copied to where its model is not: all but an export is there."""

import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest

from planner import Plan, Run
from planner.runs.space_description import read_space
from search_spaces.errors import PlanError, RunError


@pytest.fixture
def alone(searched: Path, saved_llama: Path, tmp_path: Path) -> Path:
    """A copy of the finished small search, whose model is nowhere."""
    folder = Path(shutil.copytree(searched, tmp_path / "alone"))
    settings = folder / "settings.yaml"
    text = settings.read_text(encoding="utf-8")
    assert str(saved_llama.resolve()) in text
    gone = text.replace(str(saved_llama.resolve()), str(tmp_path / "gone"))
    settings.write_text(gone, encoding="utf-8")
    return folder


def test_a_run_answers_without_its_model(alone: Path, searched: Path) -> None:
    run, original = Run.open(alone), Run.open(searched)
    pd.testing.assert_frame_equal(run.front(), original.front())
    assert run.best("params<=0.8x") == original.best("params<=0.8x")
    assert run.status.state == "finished"
    assert run.status.tokens == run.spent.tokens


def test_what_any_plan_keeps_is_told_without_the_model(alone: Path) -> None:
    run = Run.open(alone)
    in_whole = 0
    for evaluation in run.landed():
        frame = run.plan(evaluation.plan_id).layers()
        plan = run.stored_plan(evaluation.plan_id)
        if plan is None:  # on no front
            continue
        in_whole += 1
        assert [f"layers.{row.layer}.{row.component}" for row in frame.itertuples()] == [
            *plan.sites
        ]
        kept = [len(component.units) for component in plan.sites.values()]
        assert frame["kept"].tolist() == kept
        assert frame["share"].tolist() == [
            count / component.unit_count
            for count, component in zip(kept, plan.sites.values(), strict=True)
        ]
        assert set(frame["options"]) == {""}
    assert in_whole >= len(run.front_plans())
    assert {run.stored_plan(e.plan_id) is None for e in run.front_plans()} == {False}


def test_a_level_costs_what_the_plan_with_it_costs(alone: Path) -> None:
    run, space = Run.open(alone), read_space(alone)
    tops = [len(site.levels) - 1 for site in space.sites]
    assert space.dense_costs == run.dense
    for site in space.sites:
        assert {name: costs[-1] for name, costs in site.costs.items()} == run.dense
    single = [
        e for e in run.landed() if sum(a != b for a, b in zip(e.genome, tops, strict=True)) == 1
    ]
    assert single  # a search begins with these
    for evaluation in single:
        (position,) = (i for i, top in enumerate(tops) if evaluation.genome[i] != top)
        costs = space.sites[position].costs
        level = evaluation.genome[position]
        assert {name: values[level] for name, values in costs.items()} == evaluation.costs


def test_an_unknown_plan_and_a_space_that_is_lost_are_named(alone: Path) -> None:
    run = Run.open(alone)
    with pytest.raises(PlanError, match="must be named by its id in this run, got `none`"):
        run.plan("none").layers()
    (alone / "space.json").unlink()
    with pytest.raises(RunError, match=r"space\.json` must say in version 3 what") as lost:
        run.plan(run.landed()[0].plan_id).layers()
    (command,) = lost.value.__notes__
    assert command.startswith("planner search ")
    assert command.endswith(f" --out {alone} --resume")
    assert len(run.front()) > 1  # which needs no such file


@pytest.mark.parametrize("damage", ["cut off", "another"])
def test_a_damaged_space_is_made_again_where_the_model_is(
    damage: str, searched_copy: Path, searched: Path, tmp_path: Path
) -> None:
    sound = (searched / "space.json").read_bytes()
    another = sound.replace(b'"kind":"mlp"', b'"kind":"attention"')
    assert another != sound
    written = sound[:100] if damage == "cut off" else another
    (searched_copy / "space.json").write_bytes(written)
    run = Run.open(searched_copy)
    with pytest.raises(RunError, match=r"space\.json` must say in version 3 what"):
        run.plan(run.best("params<=0.8x").plan_id).layers()
    run.export(run.best("params<=0.8x").plan_id, tmp_path / "export")
    assert (searched_copy / "space.json").read_bytes() == sound


def test_a_damaged_plan_is_taken_from_its_genome_where_the_model_is(
    searched_copy: Path, tmp_path: Path, notices: list[str]
) -> None:
    plan_id = Run.open(searched_copy).best("params<=0.8x").plan_id
    sound = Run.open(searched_copy).stored_plan(plan_id)
    with sqlite3.connect(searched_copy / "run.sqlite") as database:
        database.execute("update plans set json = '{' where plan_id = ?", (plan_id,))
    database.close()
    folder = Run.open(searched_copy).export(plan_id, tmp_path / "export")
    assert Plan.load(folder / "plan.json") == sound
    assert any(f"plan {plan_id} is damaged" in notice for notice in notices)


def test_an_export_starts_from_the_plan(searched_copy: Path, tmp_path: Path) -> None:
    """And so needs no order of units where its weights are slices."""
    run = Run.open(searched_copy)
    plans = [run.stored_plan(evaluation.plan_id) for evaluation in run.front_plans()]
    of_slices = next(plan for plan in plans if plan is not None and not plan.weights_digest)
    (searched_copy / "ranking.npz").unlink()
    exported = run.export(of_slices.plan_id, tmp_path / "export")
    assert Plan.load(exported / "plan.json") == of_slices
