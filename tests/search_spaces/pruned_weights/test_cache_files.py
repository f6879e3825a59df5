"""Files of weights that are damaged, foreign, shared or cannot be written."""

import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from search_spaces.atomic_files import temporary_path
from search_spaces.errors import OutputError
from search_spaces.models.tensors import digest_of_tensors
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.types import LinearWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from tests.models.pruned_weights import WIDTHS, Counted, counted_builder, equal, files, opened

DENSE = BlockOptions()
HALF = BlockOptions(pattern=SparsityPattern(percent=50))
MLP = 3
"""Position of a component of 48 channels and 32 hidden features."""


@pytest.fixture
def builder() -> Counted:
    made = counted_builder()
    made.asked = []
    return made


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _scribble(path: Path) -> None:
    path.write_bytes(b"no safetensors")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _reshape(path: Path) -> None:
    # right in all its marks, but the weights are of another shape
    with safe_open(path, framework="pt") as file:
        marks = file.metadata()
    name = "mlp.down_proj.weight"
    tensors = {name: load_file(path)[name][:, :8].contiguous()}
    save_file(tensors, path, marks | {"bytes": digest_of_tensors(tensors)})


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def _forget_the_digest(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        marks = file.metadata()
    del marks["bytes"]
    save_file(load_file(path), path, marks)


@pytest.mark.parametrize(
    "damage", [_truncate, _scribble, _empty, _reshape, _flip_a_bit, _forget_the_digest]
)
def test_damaged_files_are_made_anew_with_a_warning(
    tmp_path: Path,
    builder: Counted,
    damage: Callable[[Path], None],
    notices: list[str],
) -> None:
    before = {p: m.weight.clone() for p, m in opened(tmp_path, builder).weights(MLP, 16).items()}
    path = tmp_path / "layers.1.mlp" / "16.safetensors"
    damage(path)
    weights = opened(tmp_path, builder).weights(MLP, 16)
    assert equal(weights, {path: LinearWeights(weight) for path, weight in before.items()})
    (text,) = notices
    assert text == f"`{path}` is damaged; made anew"
    opened(tmp_path, builder).weights(MLP, 16)
    assert len(notices) == 1


def test_too_many_values_are_damage(tmp_path: Path, builder: Counted, notices: list[str]) -> None:
    store = opened(tmp_path, builder)
    store.weights(MLP, 16, HALF)
    path = tmp_path / "layers.1.mlp" / "16-50%.safetensors"
    with safe_open(path, framework="pt") as file:
        marks = file.metadata()
    tensors = load_file(path)
    tensors["mlp.up_proj.values"] = torch.cat([tensors["mlp.up_proj.values"]] * 2)
    save_file(tensors, path, marks | {"bytes": digest_of_tensors(tensors)})
    opened(tmp_path, builder).weights(MLP, 16, HALF)
    assert notices == [f"`{path}` is damaged; made anew"]


def test_files_of_another_search_are_made_anew_with_a_warning(
    tmp_path: Path, builder: Counted, notices: list[str]
) -> None:
    WeightCache(tmp_path, builder, WIDTHS, digest="other").weights(MLP, 16)
    store = opened(tmp_path, builder)
    builder.asked = []
    store.weights(MLP, 16)
    # both widths are foreign, and built together
    assert builder.asked == [(MLP, [(16, DENSE), (32, DENSE)])]
    assert len(notices) == 2
    assert all("is of another model, text or settings; made anew" in text for text in notices)
    store.weights(MLP, 32)
    assert len(notices) == 2


def test_a_renamed_file_is_foreign(tmp_path: Path, builder: Counted, notices: list[str]) -> None:
    opened(tmp_path, builder).weights(MLP, 16)
    folder = tmp_path / "layers.1.mlp"
    (folder / "16.safetensors").rename(tmp_path / "16.safetensors")
    (tmp_path / "layers.2.mlp").mkdir()
    (tmp_path / "16.safetensors").rename(tmp_path / "layers.2.mlp" / "16.safetensors")
    opened(tmp_path, builder).weights(5, 16)
    assert len(notices) == 1


def test_weights_that_another_process_deletes_at_once_are_returned(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, builder)
    monkeypatch.setattr(store, "_shrink", lambda spared: spared.unlink())
    (expected,) = WeightBuilder.build(builder, MLP, [(16, DENSE)])
    assert equal(store.weights(MLP, 16), expected)


def test_two_stores_on_one_folder_share_what_either_made(tmp_path: Path, builder: Counted) -> None:
    first, second = opened(tmp_path, builder), opened(tmp_path, builder)
    weights = first.weights(MLP, 16)
    builder.asked = []
    assert equal(second.weights(MLP, 16), weights)
    assert builder.asked == []
    (tmp_path / "layers.1.mlp" / "16.safetensors").unlink()
    assert equal(second.weights(MLP, 16), weights)
    assert equal(first.weights(MLP, 16), weights)


def test_a_limit_on_file_sizes_leaves_nothing_half_written(
    tmp_path: Path, builder: Counted
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="ulimit"):
            opened(tmp_path, builder).weights(MLP, 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == []
    assert opened(tmp_path, builder).weights(MLP, 16)


def test_a_full_disk_is_reported_and_other_files_stay(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path, builder).weights(MLP, 16)
    before = files(tmp_path)

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"No space left on device; free some space"):
        opened(tmp_path, builder).weights(5, 16)
    assert files(tmp_path) == before


def test_a_place_that_is_a_file_is_refused(tmp_path: Path, builder: Counted) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(OutputError, match="whose parents are folders"):
        opened(tmp_path / "store", builder).weights(MLP, 16)


def test_what_a_killed_process_left_is_deleted(tmp_path: Path, builder: Counted) -> None:
    folder = tmp_path / "layers.1.mlp"
    folder.mkdir()
    dead, alive = (
        temporary_path(folder / "16.safetensors", pid) for pid in (2**22 + 1, os.getpid())
    )
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    opened(tmp_path, builder)
    assert files(tmp_path) == ["layers.1.mlp/" + alive.name]


def test_a_folder_that_cannot_be_written_can_be_read(
    tmp_path: Path,
    builder: Counted,
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
) -> None:
    opened(tmp_path, builder).weights(MLP, 16)

    def refuse(_path: Path, ns: tuple[int, int]) -> None:
        raise PermissionError(errno.EACCES, "refused")

    monkeypatch.setattr(os, "utime", refuse)
    builder.asked = []
    assert opened(tmp_path, builder).weights(MLP, 16)
    assert notices == []
    assert builder.asked == []
