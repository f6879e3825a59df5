"""Searching under a latency budget, with a table by hand, so that no clock decides anything."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluators.latency.latency_setting import Setting
from evaluators.latency.latency_table import Curve, LatencyTable, LayerTimes
from evaluators.latency.stack_timer import StackTimer
from evaluators.latency.workload import Latency, Workload
from planner import Run, compare, search
from planner.cli.main import main
from planner.export.cards.manifest import Manifest
from planner.preparation import latency_tables as tables
from planner.reports.tables import front_table
from planner.results.front import front
from search_spaces.errors import BudgetError, LatencyError, RunError, SettingsError
from search_spaces.progress import Progress
from search_spaces.structure.model import ModelStructure
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic
BUDGET = "throughput>=1.25x"
WORKLOAD = Workload(prompt_tokens=16, new_tokens=4)
LATENCY: dict[str, Any] = {**SMALL, "budget": BUDGET, "prompt_tokens": 16, "new_tokens": 4}


def both(milliseconds: float) -> Latency:
    return Latency(prefill_ms=milliseconds, decode_ms=milliseconds / 10)


def table_by_hand(structure: ModelStructure, workload: Workload) -> LatencyTable:
    """A layer's call takes 1 ms, a KV group and a channel one more each, all else 20."""
    counts = [layer.unit_count for layer in structure.components[:2]]
    curves = [Curve(counts=(1, count), latencies=(both(2), both(1 + count))) for count in counts]
    layers = tuple(range(len(structure.layers)))
    return LatencyTable(
        setting=Setting.of(structure, workload),
        dense=both(20 + len(layers) * (1 + sum(counts))),
        rest=both(20),
        kinds=(LayerTimes.of(layers, both(1), {"attention": curves[0], "mlp": curves[1]}),),
    )


def give_tables_by_hand(patch: pytest.MonkeyPatch, cache: Path) -> list[Workload]:
    """Replace measured tables by made-up ones; return the workloads that they are asked for."""
    asked: list[Workload] = []

    def measure(
        structure: ModelStructure,
        timer: StackTimer,
        progress: Progress,
        block_options: object,
    ) -> LatencyTable:
        assert block_options is not None
        asked.append(timer.workload)
        progress.advance(1, 1)
        return table_by_hand(structure, timer.workload)

    patch.setattr(tables, "measure_table", measure)
    patch.setenv("XDG_CACHE_HOME", str(cache))
    return asked


@pytest.fixture(scope="module")
def searched_once(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and the cache that it left; no test may change it."""
    folder = tmp_path_factory.mktemp("latency")
    with pytest.MonkeyPatch.context() as patch:
        asked = give_tables_by_hand(patch, folder / "cache")
        search(str(saved_llama), out=folder / "run", **LATENCY)
    assert asked == [WORKLOAD]
    return folder


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Replace measured tables by made-up ones, and note their workloads in this test."""
    return give_tables_by_hand(monkeypatch, tmp_path / "cache")


@pytest.fixture
def run(searched_once: Path, tmp_path: Path, measured: list[Workload]) -> Run:
    """A copy of the run and of the cache that it left."""
    shutil.copytree(searched_once, tmp_path, dirs_exist_ok=True)
    return Run.open(tmp_path / "run")


def spoil(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def move_to_other_device(run: Run) -> None:
    def change(content: dict[str, Any]) -> None:
        content["setting"]["device"]["name"] = "Some other CPU"

    spoil(run.folder / "latency.json", change)


def test_the_search_makes_latency_small(run: Run) -> None:
    assert run.cost_names == ("latency",)
    for evaluation in run.landed():
        tokens_per_second = 4 / (evaluation.costs["latency"] / 1000)
        assert evaluation.costs["throughput"] == pytest.approx(tokens_per_second)
    best = run.best(BUDGET)
    assert best.costs["throughput"] >= 1.25 * run.dense["throughput"]
    assert run.best("latency<=0.8x").plan_id == best.plan_id
    inside = [e for e in run.landed() if e.costs["latency"] <= 0.8 * run.dense["latency"]]
    assert best.quality["kl"].value == min(e.quality["kl"].value for e in inside)
    uniform = run.baselines()["uniform"]
    assert 0.7 < uniform.costs["latency"] / run.dense["latency"] <= 0.8


def test_recipes_are_compared_on_one_table(
    saved_llama: Path, tmp_path: Path, measured: list[Workload]
) -> None:
    few = {**LATENCY, "evaluations": 4}
    found = compare(str(saved_llama), out=tmp_path / "all", recipes="uniform,random", **few)
    assert len(measured) == 1
    tables_kept = [each.run.folder / "latency.json" for each in found.results]
    assert len({path.read_bytes() for path in tables_kept}) == 1
    assert (found.table["throughput_x"] >= 1.25 * (1 - 1e-9)).all()
    assert found.table["latency"].notna().all()


def test_the_front_shows_latency_and_throughput(run: Run) -> None:
    frame = run.front()
    assert list(frame["plan_id"]) == [e.plan_id for e in front(run.landed(), ["latency"])]
    assert frame["latency_x"].iloc[0] == frame["throughput_x"].iloc[0] == 1.0
    assert run.front(BUDGET)["throughput_x"].min() >= 1.25 * (1 - 1e-9)
    header, first, *_ = front_table(frame).plain.splitlines()
    assert header.split()[3:8] == ["bits", "macs", "kv", "latency", "throughput"]
    dense_ms = frame["latency"].iloc[0]
    assert f"{dense_ms:.1f} ms" in first
    assert f"{4000 / dense_ms:.1f} tokens/s" in first


def test_a_table_is_kept_and_used_again_for_the_same_setting(
    run: Run, measured: list[Workload], saved_llama: Path, tmp_path: Path
) -> None:
    again = search(str(saved_llama), out=tmp_path / "again", **LATENCY)
    assert measured == []
    assert (again.folder / "latency.json").read_text() == (run.folder / "latency.json").read_text()
    assert list(again.front()["plan_id"]) == list(run.front()["plan_id"])
    other = {**LATENCY, "batch_size": 2, "evaluations": 9}
    search(str(saved_llama), out=tmp_path / "other", **other)
    assert measured == [Workload(batch_size=2, prompt_tokens=16, new_tokens=4)]


def test_a_damaged_table_in_the_cache_is_measured_anew(
    run: Run, measured: list[Workload], saved_llama: Path, tmp_path: Path
) -> None:
    (kept,) = (tmp_path / "cache" / "compression-planner" / "latency").iterdir()
    kept.write_text("{")
    search(str(saved_llama), out=tmp_path / "again", **{**LATENCY, "evaluations": 9})
    assert measured == [WORKLOAD]
    assert LatencyTable.load(kept).setting.workload == WORKLOAD


def test_a_resumed_run_uses_its_own_table(
    run: Run, measured: list[Workload], saved_llama: Path, tmp_path: Path
) -> None:
    further = {**LATENCY, "evaluations": 50}
    search(str(saved_llama), out=run.folder, resume=True, **further)
    assert measured == []
    (run.folder / "latency.json").unlink()
    (kept,) = (tmp_path / "cache" / "compression-planner" / "latency").iterdir()
    spoil(kept, lambda content: content["rest"].update(prefill_ms=19.0))
    with pytest.raises(RunError, match="run must keep the latency table that it began with"):
        search(str(saved_llama), out=run.folder, resume=True, **further)


def test_a_table_of_another_device_is_refused_and_named(
    run: Run, saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = LatencyTable.load(run.folder / "latency.json").setting.device
    move_to_other_device(run)
    with pytest.raises(LatencyError, match="Some other CPU") as caught:
        search(str(saved_llama), out=run.folder, resume=True, **LATENCY)
    assert here.name[:20] in str(caught.value)
    options = ["--plan", run.best(BUDGET).plan_id, "--out", str(tmp_path / "export")]
    capsys.readouterr()
    assert main(["export", str(run.folder), *options]) == 2
    message = capsys.readouterr().err
    assert "Some other CPU" in message
    assert here.name[:20] in message
    assert not (tmp_path / "export").exists()


def test_an_export_is_measured_and_its_prediction_judged(run: Run, tmp_path: Path) -> None:
    best = run.best(BUDGET)
    folder = run.export(best.plan_id, tmp_path / "export")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    service = manifest.service
    assert service.workload == Workload(prompt_tokens=16, new_tokens=4)
    assert manifest.costs["latency"] == pytest.approx(best.costs["latency"])
    prediction = service.prediction
    assert prediction is not None
    promised, taken = (
        service.workload.request_ms(latency)
        for latency in (prediction.pruned, service.latency["pruned"])
    )
    assert promised == pytest.approx(best.costs["latency"])
    assert taken > 0
    assert prediction.error == pytest.approx(promised / taken - 1)
    assert f"was predicted to take {promised:.0f} ms" in (folder / "README.md").read_text()


def test_without_a_table_an_export_promises_nothing(run: Run, tmp_path: Path) -> None:
    (run.folder / "latency.json").unlink()
    folder = run.export(run.best(BUDGET).plan_id, tmp_path / "export")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert manifest.service.prediction is None
    assert "latency" not in manifest.costs
    assert "predicted" not in (folder / "README.md").read_text()


def test_the_export_is_measured_in_the_format_of_the_table(
    saved_llama: Path, tmp_path: Path, measured: list[Workload]
) -> None:
    half = {**LATENCY, "evaluations": 9, "dtype": "bfloat16"}
    run = search(str(saved_llama), out=tmp_path / "run", **half)
    folder = run.export(run.best("latency<=1x").plan_id, tmp_path / "export")
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_text())
    assert manifest.service.served_as["dtype"] == "bfloat16"


def test_a_run_that_measured_nothing_cannot_answer(searched: Path) -> None:
    run = Run.open(searched)
    assert not (run.folder / "latency.json").exists()
    assert "latency" not in run.front()
    for answer in (run.best, run.front):
        with pytest.raises(BudgetError, match="needs a run that measured latency"):
            answer("latency<=25ms")


def test_a_workload_beyond_the_positions_is_refused(saved_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="at most the 64 positions of the model together"):
        search(str(saved_llama), out=tmp_path / "run", **{**LATENCY, "prompt_tokens": 61})
