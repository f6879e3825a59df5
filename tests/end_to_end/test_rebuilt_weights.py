"""Cached weights that are lost after a search: those built again are held against the scored."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from planner import Run, search
from planner.export.cards.manifest import Manifest
from planner.runs.folder import WEIGHTS_FILE
from tests.models.moe_families import saved_mixture
from tests.settings import SHORT_TEXT

SMALL: dict[str, Any] = {
    "evaluations": 12,
    "population": 4,
    **SHORT_TEXT,
}


def exported(run: Run, out: Path) -> tuple[Manifest, str]:
    """Export the best plan; return its manifest and its card."""
    folder = run.export(run.best(run.settings.budget or "").plan_id, out)
    manifest = (folder / "manifest.json").read_text(encoding="utf-8")
    return Manifest.model_validate_json(manifest), (folder / "README.md").read_text("utf-8")


def test_a_search_in_bfloat16_of_a_float32_model_says_that_its_export_differs(
    saved_llama: Path, tmp_path: Path, notices: list[str]
) -> None:
    options: dict[str, Any] = {"budget": "nonzero<=0.6x", "space": "sparsity", "sparsity_step": 40}
    run = search(str(saved_llama), out=tmp_path / "run", **SMALL, **options, dtype="bfloat16")
    kept, _ = exported(run, tmp_path / "kept")
    assert not any("built again" in note for note in kept.notes)
    shutil.rmtree(run.folder / "levels")  # its statistics are still there
    notices.clear()
    manifest, card = exported(run, tmp_path / "rebuilt")
    (note,) = (note for note in manifest.notes if "built again" in note)
    assert "they differ from those that were scored, by up to " in note
    assert note in card
    assert len([notice for notice in notices if "search again, or export on" in notice]) == 1
    # what was built again lies in the cache now, and still is not what was scored
    again, _ = exported(run, tmp_path / "again")
    assert again.notes == manifest.notes


def test_merged_experts_are_those_that_were_scored_lost_or_not(tmp_path: Path) -> None:
    model = saved_mixture("mixtral", tmp_path / "model")
    options: dict[str, Any] = {"budget": "params<=0.7x", "space": "experts", "compensate": "merge"}
    run = search(str(model), out=tmp_path / "run", **SMALL, **options, dtype="float32")
    assert (run.folder / WEIGHTS_FILE).is_file()
    kept, _ = exported(run, tmp_path / "kept")
    shutil.rmtree(run.folder / "levels")
    rebuilt, _ = exported(run, tmp_path / "rebuilt")
    assert rebuilt.notes == kept.notes == []
    weights = "model.safetensors"
    assert rebuilt.files[weights].sha256 == kept.files[weights].sha256


@pytest.mark.parametrize("damage", [b"\n{", b"\n\x00\xff"])
def test_a_damaged_record_is_named_and_stops_nothing(
    damage: bytes, saved_llama: Path, tmp_path: Path, notices: list[str]
) -> None:
    options: dict[str, Any] = {"budget": "nonzero<=0.6x", "space": "sparsity", "sparsity_step": 40}
    run = search(str(saved_llama), out=tmp_path / "run", **SMALL, **options, dtype="float32")
    record = run.folder / WEIGHTS_FILE
    record.write_bytes(record.read_bytes() + damage)
    notices.clear()
    manifest, _ = exported(run, tmp_path / "model")
    assert not any("built again" in note for note in manifest.notes)
    assert any(str(record) in notice and "is damaged" in notice for notice in notices)
