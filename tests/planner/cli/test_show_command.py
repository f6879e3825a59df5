"""``planner show``: one plan in whole, as text and as data."""

import io
import json
from pathlib import Path

import pandas as pd
import pytest

from planner import Run
from planner.cli.main import main
from planner.runs.folder import SPACE_FILE
from tests.planner.cli.commands import refused


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["show", *words]) == 0
    return capsys.readouterr().out


def test_a_plan_is_shown_with_costs_scores_and_layers(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(searched)
    best = run.best("params<=0.8x")
    plan = run.plan(best.plan_id)
    text = shown(capsys, str(searched), best.plan_id)
    lines = text.splitlines()
    assert lines[0].startswith(f"plan {best.plan_id}  on the front · ")
    params = next(line for line in lines if line.startswith("params "))
    assert params.endswith(f"{best.costs['params'] / run.dense['params']:.3f}x")
    kl = next(line for line in lines if line.startswith("kl "))
    assert [str(each["kl"]) in kl for each in (best.quality, best.fresh, best.holdout)] == [
        True, True, True,
    ]  # fmt: skip
    frame = plan.layers()
    rows = lines[-len(frame) :]
    assert lines[-len(frame) - 1].split() == [
        "layer", "component", "kept", "of", "share", "options",
    ]  # fmt: skip
    for row, (_, expected) in zip(rows, frame.iterrows(), strict=True):
        words = row.split()
        assert words[:4] == [str(expected[name]) for name in ("layer", "component", "kept", "of")]
        assert words[-1] == f"{expected['share']:.1%}"


def test_a_plan_is_chosen_by_a_budget_or_at_the_knee(
    searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(searched)
    knee, best = run.knee(), run.best("params<=0.9x")
    assert knee is not None
    by_budget = shown(capsys, str(searched), "--budget", "params<=0.9x")
    assert by_budget.startswith(f"plan {best.plan_id} ")
    assert f"plan {knee.plan_id}  on the front · at its knee" in shown(
        capsys, str(searched), "--knee"
    )


@pytest.mark.parametrize("words", [[], ["x", "--knee"], ["--knee", "--budget", "kl<=1"]])
def test_a_plan_is_chosen_in_one_way(
    words: list[str], searched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "show", str(searched), *words)
    assert "must be chosen in one of the ways `PLAN`, `--budget` and `--knee`" in said


def test_an_unknown_plan_is_told(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be named by its id in this run" in refused(capsys, "show", str(searched), "none")


def test_a_plan_as_data(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.open(searched)
    best = run.best("params<=0.8x")
    plan = run.plan(best.plan_id)
    data = json.loads(shown(capsys, str(searched), best.plan_id, "--json"))
    assert list(data) == [
        "plan_id", "round", "windows", "failure", "costs", "scores", "layers",
    ]  # fmt: skip
    assert {row["metric"]: row["value"] for row in data["costs"]} == dict(best.costs)
    kls = {row["split"]: row["value"] for row in data["scores"] if row["metric"] == "kl"}
    assert kls == {
        "search": best.quality["kl"].value,
        "fresh": best.fresh["kl"].value,
        "holdout": best.holdout["kl"].value,
    }
    layers = plan.layers()
    assert [row["kept"] for row in data["layers"]] == layers["kept"].tolist()
    csv = shown(capsys, str(searched), best.plan_id, "--csv")
    read = pd.read_csv(io.StringIO(csv), keep_default_na=False)
    assert read["share"].tolist() == layers["share"].tolist()
    assert list(read.columns) == list(layers.columns)


def test_without_what_it_chose_among_the_rest_is_shown(
    searched_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (searched_copy / SPACE_FILE).unlink()
    best = Run.open(searched_copy).best("params<=0.8x")
    text = shown(capsys, str(searched_copy), best.plan_id)
    assert str(best.holdout["kl"]) in text
    assert "its layers are not known: " in text
    data = json.loads(shown(capsys, str(searched_copy), best.plan_id, "--json"))
    assert data["layers"] is None
    assert {row["metric"]: row["value"] for row in data["costs"]} == dict(best.costs)
    said = refused(capsys, "show", str(searched_copy), best.plan_id, "--csv")
    assert "must say in version 3 what the search chooses among" in said
