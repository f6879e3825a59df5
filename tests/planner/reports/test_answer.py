"""Answers with what exports were measured to do, wherever these lie beside the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluators.latency.workload import Latency
from planner.export.cards.manifest import Manifest
from planner.reports.answer import answer_sentence
from planner.reports.known_exports import known_exports
from planner.run import Run
from planner.runs.folder import EXPORTS_FILE, MANIFEST_FILE
from search_spaces.models.identity import ModelIdentity
from tests.planner.export.cards.manifests import MANIFEST, SERVICE
from tests.problems.toy_run import write_toy_run

BUDGET = "params<=0.9x"
TOLD = "1.42× decode throughput in llama.cpp"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with write_toy_run(tmp_path / "runs" / "toy") as opened:
        yield opened


def export(run: Run, folder: Path, fingerprint: str = "abc") -> Manifest:
    """Write the manifest of an export of the best plan, which decodes 1.42 times as fast."""
    latency = {
        "dense": Latency(prefill_ms=100.0, decode_ms=14.2),
        "pruned": Latency(prefill_ms=80.0, decode_ms=10.0),
    }
    manifest = MANIFEST.model_copy(
        update={
            "plan_id": run.best(BUDGET).plan_id,
            "model": ModelIdentity(architecture="Toy", fingerprint=fingerprint, params=1000),
            "service": SERVICE.model_copy(update={"runtime": "llama.cpp", "latency": latency}),
        }
    )
    folder.mkdir(parents=True)
    (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(), encoding="utf-8")
    return manifest


@pytest.mark.parametrize("place", ["toy/model", "exported", "many/plan"])
def test_an_export_in_the_run_or_beside_it_is_told(place: str, run: Run) -> None:
    assert "throughput" not in answer_sentence(run, BUDGET)
    folder = run.folder.parent / place
    manifest = export(run, folder)
    if place == "many/plan":
        assert known_exports(run) == {}  # a folder of something else is not searched through
        (folder.parent / EXPORTS_FILE).touch()
    ((found,),) = known_exports(run).values()
    assert (found.folder, found.manifest) == (folder, manifest)
    assert f"× params, {TOLD}, KL " in answer_sentence(run, BUDGET)


def test_nothing_is_read_outside_of_a_root(run: Run) -> None:
    export(run, run.folder.parent / "exported")
    assert TOLD not in answer_sentence(run, BUDGET, run.folder)
    assert TOLD in answer_sentence(run, BUDGET, run.folder.parent)


def test_an_export_of_another_model_is_none_of_the_run(run: Run) -> None:
    export(run, run.folder / "model", fingerprint="other")
    assert known_exports(run) == {}


def test_what_is_no_manifest_is_passed_over(run: Run, tmp_path: Path) -> None:
    export(run, tmp_path / "elsewhere")
    (run.folder / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for name, content in (("a", b"{"), ("b", b"\xff"), ("c", b"[]"), ("d", b"{}" * 3_000_000)):
        (run.folder / name).mkdir()
        (run.folder / name / MANIFEST_FILE).write_bytes(content)
    assert known_exports(run) == {}
    export(run, run.folder / "e")
    assert len(known_exports(run)) == 1


def test_an_export_that_nobody_timed_says_nothing_of_speed(run: Run) -> None:
    manifest = export(run, run.folder / "model")
    service = manifest.service.model_copy(update={"latency": {}})
    text = manifest.model_copy(update={"service": service}).model_dump_json()
    (run.folder / "model" / MANIFEST_FILE).write_text(text, encoding="utf-8")
    assert "throughput" not in answer_sentence(run, BUDGET)
