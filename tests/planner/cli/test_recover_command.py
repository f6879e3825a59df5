"""``planner recover``: a variant of a plan that is shown, and exported by its name."""

import json
from pathlib import Path

import pytest

from planner.cli.main import main
from planner.run import Run
from tests.planner.cli.commands import refused


def test_a_variant_is_made_and_shown(
    searched_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(searched_copy)
    plan_id = Run.open(run).best("params<=0.8x").plan_id
    assert main(["recover", run, "--plan", plan_id]) == 0
    said = capsys.readouterr().out
    found = Run.open(run).find_plan(plan_id)
    assert found is not None
    variant = found.variant("refit")
    assert variant is not None
    name = f"{plan_id}+refit"
    assert said.startswith(f"{name}, output projections solved again on ")
    assert f"KL {variant.holdout['kl']} on held-out text, from {found.holdout['kl']}" in said
    assert f"--plan {name} --out FOLDER" in said

    assert main(["front", run, "--json"]) == 0
    rows = {row["plan_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[name]["holdout_kl"] == variant.holdout["kl"].value
    assert rows[name]["params"] == rows[plan_id]["params"]
    assert name in (searched_copy / "front.csv").read_text(encoding="utf-8")

    assert main(["show", run, name]) == 0
    assert str(variant.holdout["kl"]) in capsys.readouterr().out
    assert main(["show", run, plan_id]) == 0
    assert f"\n{name}, output projections" in capsys.readouterr().out


def test_an_export_makes_what_is_missing(searched_copy: Path, tmp_path: Path) -> None:
    run, out = str(searched_copy), tmp_path / "out"
    plan_id = Run.open(run).best("params<=0.8x").plan_id
    assert main(["export", run, "--plan", plan_id, "--recover", "refit", "--out", str(out)]) == 0
    found = Run.open(run).find_plan(f"{plan_id}+refit")
    assert found is not None
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["plan_id"] == found.plan_id
    assert manifest["recovery"]["recovery"] == "refit"
    assert manifest["logit_gap"] <= manifest["logit_gap_allowed"]
    assert manifest["holdout"]["kl"]["value"] == found.holdout["kl"].value
    assert "Its weights were recovered: output projections" in (out / "README.md").read_text()


def test_what_does_not_go_together_is_refused(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(searched)
    assert "one of `--plan` and `--budget`, got none" in refused(capsys, "recover", run)
    both = ("--plan", "x", "--budget", "params<=0.8x")
    assert "got `--plan` and `--budget`" in refused(capsys, "recover", run, *both)
    assert "named by its id" in refused(capsys, "recover", run, "--plan", "0123456789")
    few = ("--budget", "params<=0.8x", "--plans", "0")
    assert "`plans` must be at least 1, got 0" in refused(capsys, "recover", run, *few)
    crowd = (*few[:-1], "100000")
    assert "`plans` must be at most 128" in refused(capsys, "recover", run, *crowd)
    plan_id = Run.open(run).best("params<=0.8x").plan_id
    out = ("--out", str(tmp_path / "out"))
    missing = refused(capsys, "export", run, "--plan", f"{plan_id}+block", *out)
    assert "must have weights recovered by block, and it has none" in missing
    many = refused(capsys, "export", run, "--front", "--recover", "refit", *out)
    assert "`--recover refit` is for one plan, got `--front`" in many
