"""Many plans as models: named by their costs, gone on with after a kill, one failing alone."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from filelock import FileLock

from planner.cli.main import main
from planner.export.cards.manifest import Manifest
from planner.export.choose import Request, export_many
from planner.export.front_exports import ExportIndex, export_plans
from planner.run import Run
from planner.runs.folder import EXPORTS_FILE
from planner.targets.target_names import TargetChoice
from search_spaces.errors import OutputError, TargetError, VerificationError
from search_spaces.progress import NO_PROGRESS


class Fake:
    """Exports in an instant; plans may be refused, or fail."""

    asked: ClassVar[list[str]] = []
    errors: ClassVar[dict[str, BaseException]] = {}

    def __init__(self, _run: Run, plans: Sequence[str], **_: object) -> None:
        self.plans = plans

    def export(self, plan: str, out: Path, _choice: TargetChoice) -> None:
        assert plan in self.plans
        self.asked.append(plan)
        if plan in self.errors:
            raise self.errors[plan]
        out.mkdir()
        (out / "manifest.json").touch()


@pytest.fixture
def run(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr("planner.export.front_exports.RunExports", Fake)
    monkeypatch.setattr(Fake, "asked", [])
    monkeypatch.setattr(Fake, "errors", {})
    return Run.open(searched)


def test_each_plan_has_a_folder_named_by_its_costs(run: Run, tmp_path: Path) -> None:
    plans = run.front_plans()[:3]
    index = export_plans(run, plans, tmp_path / "out")
    shares = [plan.costs["params"] / run.dense["params"] for plan in plans]
    assert [each.folder for each in index.plans] == [f"params-{share:.3f}x" for share in shares]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        EXPORTS_FILE,
        *(each.folder for each in index.plans),
    }
    text = (tmp_path / "out" / EXPORTS_FILE).read_text(encoding="utf-8")
    assert ExportIndex.model_validate_json(text) == index
    assert {each.state for each in index.plans} == {"exported"}


def test_a_killed_one_goes_on_where_it_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, out = run.front_plans()[:3], tmp_path / "out"
    second = plans[1].plan_id
    with monkeypatch.context() as killed:
        killed.setitem(Fake.errors, second, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            export_plans(run, plans, out)
    Fake.asked.clear()
    index = export_plans(run, plans, out)
    assert Fake.asked == [plan.plan_id for plan in plans[1:]]
    assert {each.state for each in index.plans} == {"exported"}
    Fake.asked.clear()
    assert export_plans(run, plans, out) == index
    assert Fake.asked == []


def test_one_that_was_whole_before_it_was_noted_is_kept(run: Run, tmp_path: Path) -> None:
    plans, out = run.front_plans()[:2], tmp_path / "out"
    index = export_plans(run, plans, out)
    opened = [each.model_copy(update={"state": "open"}) for each in index.plans]
    index.model_copy(update={"plans": opened}).save(out)
    Fake.asked.clear()
    assert export_plans(run, plans, out) == index
    assert Fake.asked == []


def test_a_plan_that_fails_is_named_and_the_others_stand(run: Run, tmp_path: Path) -> None:
    plans, out = run.front_plans()[:3], tmp_path / "out"
    Fake.errors[plans[0].plan_id] = VerificationError("it computes something else")
    Fake.errors[plans[2].plan_id] = TargetError("it is not held")
    index = export_plans(run, plans, out)
    assert [each.state for each in index.plans] == ["failed", "exported", "refused"]
    assert [each.reason for each in index.plans] == [
        "it computes something else",
        "",
        "it is not held",
    ]
    Fake.errors.clear()
    Fake.asked.clear()
    index = export_plans(run, plans, out)
    assert Fake.asked == [plans[0].plan_id, plans[2].plan_id]
    assert {each.state for each in index.plans} == {"exported"}


def test_other_plans_join_those_that_a_killed_one_left_open(run: Run, tmp_path: Path) -> None:
    plans, out = run.front_plans()[:3], tmp_path / "out"
    Fake.errors[plans[0].plan_id] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        export_plans(run, plans[:2], out)
    index = export_plans(run, plans[2:], out)
    assert [each.state for each in index.plans] == ["open", "open", "exported"]
    Fake.errors.clear()
    index = export_plans(run, plans, out)
    assert {each.state for each in index.plans} == {"exported"}


def test_one_that_was_removed_is_made_again(run: Run, tmp_path: Path) -> None:
    plans, out = run.front_plans()[:2], tmp_path / "out"
    index = export_plans(run, plans, out)
    shutil.rmtree(out / index.plans[1].folder)
    Fake.asked.clear()
    assert export_plans(run, plans, out) == index
    assert Fake.asked == [plans[1].plan_id]


def test_nothing_that_is_held_is_a_refusal(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Fake.errors[run.best("params<=0.8x").plan_id] = TargetError("it is not held")
    words = ["export", str(run.folder), "--budgets", "params<=0.8x", "--out", str(tmp_path / "m")]
    assert main(words) == 2
    assert "planner: it is not held" in capsys.readouterr().err


def test_a_folder_that_is_taken_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match="or hold the exports that this goes on with"):
        export_plans(run, run.front_plans()[:1], tmp_path)


def test_exports_in_another_format_are_refused(run: Run, tmp_path: Path) -> None:
    plans, out = run.front_plans()[:1], tmp_path / "out"
    export_plans(run, plans, out)
    with pytest.raises(OutputError, match=r"holds others, in hf; choose another folder"):
        export_plans(run, plans, out, choice=TargetChoice(name="gguf"))


def test_the_space_is_asked_for_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=60e6))
    with pytest.raises(OutputError, match=r"2 exports need 0\.1 GB of free space"):
        export_plans(run, run.front_plans()[:2], tmp_path / "out")
    assert Fake.asked == []


def test_the_best_within_each_budget(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models"
    budgets = "params<=0.9x; params<=0.8x"
    assert main(["export", str(searched), "--budgets", budgets, "--out", str(out)]) == 0
    index: dict[str, Any] = json.loads((out / EXPORTS_FILE).read_text(encoding="utf-8"))
    run = Run.open(searched)
    expected = [run.best("params<=0.9x").plan_id, run.best("params<=0.8x").plan_id]
    assert [plan["plan_id"] for plan in index["plans"]] == expected
    printed = capsys.readouterr().out
    page = (out / "README.md").read_text(encoding="utf-8")
    for plan in index["plans"]:
        text = (out / plan["folder"] / "manifest.json").read_text(encoding="utf-8")
        assert Manifest.model_validate_json(text).plan_id == plan["plan_id"]
        assert plan["folder"] in printed
        assert f"| {plan['folder']} | {plan['plan_id']} |" in page
    assert "![KL against params](front.png)" in page
    assert "AutoModelForCausalLM.from_pretrained(FOLDER" in page
    assert (out / "front.png").read_bytes().startswith(b"\x89PNG")


def test_each_by_the_best_of_what_it_was_recovered_to(
    searched_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.export.front_exports.RunExports", Fake)
    run = Run.open(searched_copy)
    as_searched, plan_id = (run.best(f"params<={share}x").plan_id for share in (0.9, 0.8))
    plan = run.recover(plan_id)
    variant = plan.variant("refit")
    assert variant is not None
    assert variant.fresh["kl"].value < plan.fresh["kl"].value
    request = Request(budgets="params<=0.9x; params<=0.8x", recover="best")
    index = export_many(str(searched_copy), request, out=tmp_path / "out", progress=NO_PROGRESS)
    assert [each.plan_id for each in index.plans] == [as_searched, f"{plan_id}+refit"]
    # and as it was searched once the weights are gone
    shutil.rmtree(searched_copy / "recovered")
    index = export_many(str(searched_copy), request, out=tmp_path / "now", progress=NO_PROGRESS)
    assert [each.plan_id for each in index.plans] == [as_searched, plan_id]


def test_two_at_once_do_not_share_a_folder(run: Run, tmp_path: Path) -> None:
    plans, out = run.front_plans()[:1], tmp_path / "out"
    out.mkdir()
    with (
        FileLock(out / "exports.lock"),
        pytest.raises(OutputError, match="one process at a time may export into a folder"),
    ):
        export_plans(run, plans, out)
    # and a lock that a killed process left hinders nobody
    (out / "exports.lock").touch()
    assert [each.state for each in export_plans(run, plans, out).plans] == ["exported"]
