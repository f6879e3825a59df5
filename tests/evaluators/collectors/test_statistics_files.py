"""Statistics on disk: found again, made again where they are foreign or damaged, never in half."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from evaluators.collectors import collect_statistics
from search_spaces.errors import OutputError
from search_spaces.statistics import StatisticName, Statistics
from tests.models import tiny
from tests.progress import RecordedProgress

WANTED: frozenset[StatisticName] = frozenset({"gram", "input_mean", "gate_fisher", "angle"})
LAYERS = ["layer-000.safetensors", "layer-001.safetensors", "layer-002.safetensors"]
STRUCTURE = tiny.llama()
WINDOWS = tiny.windows()


def collected(folder: Path | None, **changes: Any) -> tuple[tuple[Statistics, ...], list[str]]:
    """Statistics, and what was logged; done layers as ``done 1``."""
    progress = RecordedProgress()
    arguments: dict[str, Any] = {"windows": WINDOWS, "names": WANTED, "identity": "a"} | changes
    found = collect_statistics(
        STRUCTURE,
        folder=folder,
        progress=progress,
        **arguments,
    )
    return found, [f"done {done}" for done, _ in progress.counts]


def same(first: tuple[Statistics, ...], second: tuple[Statistics, ...]) -> bool:
    return all(
        set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)
        for a, b in zip(first, second, strict=True)
    )


def test_what_is_written_is_what_was_measured_and_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "statistics"
    expected, _ = collected(None)
    written, events = collected(folder)
    assert events == ["done 1", "done 2", "done 3"]
    assert sorted(path.name for path in folder.iterdir()) == LAYERS
    (folder / "opened").touch()
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1  # others may read it if they may read any file of this user
    (folder / "opened").unlink()
    again, events = collected(folder)
    assert events == []
    assert same(written, expected)
    assert same(again, expected)


def test_what_projections_share_is_written_once(tmp_path: Path) -> None:
    found, _ = collected(tmp_path)
    with safe_open(tmp_path / LAYERS[0], framework="pt") as opened:
        grams = [name for name in opened.keys() if name.startswith("gram ")]  # noqa: SIM118
    assert len(grams) == 4  # q = k = v, o, gate = up, down
    up, gate = found[0]["gram", "mlp.up_proj"], found[0]["gram", "mlp.gate_proj"]
    assert torch.equal(up, gate)


def _mapped(name: str) -> list[tuple[int, int]]:
    """Return the addresses at which this process has a file mapped, from where to where."""
    places = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ends = [p[0].split("-") for p in places if p[-1].endswith(name)]
    return [(int(low, 16), int(high, 16)) for low, high in ends]


def test_what_is_given_is_mapped_from_the_file_while_it_is_in_use(tmp_path: Path) -> None:
    found, _ = collected(tmp_path)
    gram = found[1]["gram", "mlp.down_proj"]
    assert any(low <= gram.data_ptr() < high for low, high in _mapped(LAYERS[1]))
    del gram
    assert _mapped(LAYERS[1]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"identity": "b"},
        {"windows": tiny.windows(seed=1)},
        {"windows": WINDOWS[:2]},
        {"names": WANTED | {"similarity"}},
        {"names": WANTED - {"angle"}},
    ],
    ids=["model", "text", "less text", "more", "less"],
)
def test_files_of_another_model_text_or_choice_are_made_again(
    tmp_path: Path, changes: dict[str, Any], notices: list[str]
) -> None:
    collected(tmp_path)
    found, events = collected(tmp_path, **changes)
    assert notices == [
        f"`{tmp_path}` holds statistics of another model, text or choice, and they are made again"
    ]
    assert events == ["done 1", "done 2", "done 3"]
    assert same(found, collected(None, **changes)[0])
    assert collected(tmp_path, **changes)[1] == []


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"\xff" * 2000)


@pytest.mark.parametrize("damage", [cut_short, empty, overwrite])
def test_a_damaged_file_is_made_again_and_the_others_are_not(
    tmp_path: Path, damage: Callable[[Path], None], notices: list[str]
) -> None:
    collected(tmp_path)  # nothing of it is used: who holds a mapped file must not shorten it
    expected, _ = collected(None)
    kept = [(tmp_path / name).stat().st_mtime_ns for name in LAYERS]
    damage(tmp_path / LAYERS[1])
    found, events = collected(tmp_path)
    assert len(notices) == 1
    assert notices[0] == f"`{tmp_path / LAYERS[1]}` is damaged and is made again"
    assert events == ["done 2"]
    assert same(found, expected)
    now = [(tmp_path / name).stat().st_mtime_ns for name in LAYERS]
    assert (now[0], now[2]) == (kept[0], kept[2])


def test_what_a_killed_pass_left_is_used(tmp_path: Path) -> None:
    expected, _ = collected(tmp_path)
    (tmp_path / LAYERS[2]).unlink()
    found, events = collected(tmp_path)
    assert events == ["done 3"]
    assert same(found, expected)


@pytest.mark.parametrize("refusal", ["limit", "fsync", "parent"])
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    folder = tmp_path / "statistics"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if refusal == "parent":
        folder.write_text("a file")
    elif refusal == "fsync":

        def refuse(_: int) -> None:
            raise OSError(28, "refused")

        monkeypatch.setattr(os, "fsync", refuse)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OutputError, match=r"must be writable, got: .*; [a-z]+ "):
            collected(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    if refusal != "parent":
        assert list(folder.iterdir()) == []


def test_a_full_disk_keeps_the_layers_that_were_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Path] = []

    def save_two(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        calls.append(path)
        if len(calls) > 2:
            raise SafetensorError("Error while serializing: I/O error: No space left")
        save_file(tensors, path, metadata)

    monkeypatch.setattr("evaluators.collectors.statistics_files.save_file", save_two)
    with pytest.raises(OutputError, match=r"layer-002.*refuses its content; free some space"):
        collected(tmp_path)
    monkeypatch.undo()
    assert sorted(path.name for path in tmp_path.iterdir()) == LAYERS[:2]
    found, events = collected(tmp_path)
    assert events == ["done 3"]
    assert same(found, collected(None)[0])
