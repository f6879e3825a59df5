"""Levels on disk: made once, mapped, bounded, and never half-written."""

import errno
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from search_spaces import level_store
from search_spaces.compensation import make_compensation
from search_spaces.errors import OutputError
from search_spaces.level_builder import Choice, LevelBuilder
from search_spaces.level_store import LevelStore
from search_spaces.levels import Level, Matrix
from search_spaces.packing import pack, unpack
from search_spaces.patterns import DENSE, Pattern
from search_spaces.sorting import sort_units_
from tests.candidates import random_tokens
from tests.families import dense, twin
from tests.leveled import RowMagnitude, measured, random_orders

HALF = Pattern(percent=50)
PAIRS = Pattern(keep=2, group=4)
WIDTHS = [(0, 1, 2), (0, 16, 32, 48)] * 6
MLP = 3
"""Position of a sub-block of 48 channels and 32 hidden features."""
DENSE_FILE = 16 * 32 * 4


class Counted(LevelBuilder):
    """Notes what it is asked for."""

    asked: list[tuple[int, list[Choice]]]

    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[Level]:
        self.asked.append((position, list(choices)))
        return super().build(position, choices)


@pytest.fixture(scope="module")
def shared_builder() -> Counted:
    structure = dense("llama")
    orders, copy = random_orders(structure), twin(structure)
    sort_units_(copy, orders)
    text = random_tokens(batch=16, length=16)
    made = Counted(
        copy,
        measured(structure, text),
        orders,
        compensation=make_compensation("least_squares"),
        sparsifier=RowMagnitude(),
    )
    made.asked = []
    return made


@pytest.fixture
def builder(shared_builder: Counted) -> Counted:
    shared_builder.asked = []
    return shared_builder


def opened(folder: Path, builder: LevelBuilder, said: list[str] | None = None) -> LevelStore:
    told = [] if said is None else said
    return LevelStore(folder, builder, WIDTHS, digest="a", on_notice=told.append)


def equal(first: Level, second: Level) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[path].weight, second[path].weight) for path in first
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_what_is_stored_is_what_was_built(tmp_path: Path, builder: Counted) -> None:
    store = opened(tmp_path, builder)
    for position, count, pattern in ((3, 32, DENSE), (3, 48, HALF), (2, 1, HALF), (3, 16, PAIRS)):
        (expected,) = LevelBuilder.build(builder, position, [(count, pattern)])
        for _ in range(2):
            assert equal(store.level(position, count, pattern), expected)
        fresh = opened(tmp_path, builder)
        assert equal(fresh.level(position, count, pattern), expected)


def test_levels_are_built_when_asked_for_and_once(tmp_path: Path, builder: Counted) -> None:
    store = opened(tmp_path, builder)
    assert builder.asked == []
    store.level(MLP, 16)
    assert builder.asked == [(MLP, [(16, DENSE), (32, DENSE)])]
    store.level(MLP, 32)
    store.level(MLP, 32, HALF)
    store.level(MLP, 32, HALF)
    opened(tmp_path, builder).level(MLP, 32, HALF)
    assert builder.asked[1:] == [(MLP, [(32, HALF)])]
    assert files(tmp_path) == [
        "layers.1.mlp/16.safetensors",
        "layers.1.mlp/32-50%.safetensors",
        "layers.1.mlp/32.safetensors",
    ]


def test_slices_take_no_file(tmp_path: Path, builder: Counted) -> None:
    store = opened(tmp_path, builder)
    for count, pattern in ((0, DENSE), (0, HALF), (48, DENSE)):
        assert store.level(MLP, count, pattern) == {}
    assert files(tmp_path) == []


def test_a_width_beside_the_planned_ones_is_built_too(tmp_path: Path, builder: Counted) -> None:
    level = opened(tmp_path, builder).level(MLP, 20)
    assert level["mlp.down_proj"].weight.shape == (32, 20)
    assert builder.asked == [(MLP, [(16, DENSE), (20, DENSE), (32, DENSE)])]


def test_all_can_be_built_at_once(tmp_path: Path, builder: Counted) -> None:
    store, steps = opened(tmp_path, builder), list[tuple[int, int]]()
    store.build_all([2, 3], [DENSE, HALF], lambda done, total: steps.append((done, total)))
    assert steps == [(1, 2), (2, 2)]
    # attention: one narrow width, sparse at both; MLP: two, sparse at three
    assert len(files(tmp_path)) == 1 + 2 + 2 + 3
    builder.asked = []
    store.build_all([2, 3], [DENSE, HALF])
    assert builder.asked == []
    store.build_all()
    assert len({path.split("/")[0] for path in files(tmp_path)}) == len(WIDTHS)


def test_a_repair_that_fell_back_is_remembered_as_a_slice(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "build", lambda _position, choices: ({} for _ in choices))
    assert opened(tmp_path, builder).level(MLP, 16) == {}
    monkeypatch.undo()
    assert opened(tmp_path, builder).level(MLP, 16) == {}
    assert builder.asked == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _scribble(path: Path) -> None:
    path.write_bytes(b"no safetensors")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _reshape(path: Path) -> None:
    # right in all its marks, but the weights are of another shape
    with level_store.safe_open(path, framework="pt") as file:
        marks = file.metadata()
    name = "mlp.down_proj.weight"
    save_file({name: load_file(path)[name][:, :8].contiguous()}, path, marks)


@pytest.mark.parametrize("harm", [_truncate, _scribble, _empty, _reshape])
def test_damaged_files_are_made_anew_and_told(
    tmp_path: Path, builder: Counted, harm: Callable[[Path], None]
) -> None:
    before = {p: m.weight.clone() for p, m in opened(tmp_path, builder).level(MLP, 16).items()}
    path = tmp_path / "layers.1.mlp" / "16.safetensors"
    harm(path)
    said: list[str] = []
    level = opened(tmp_path, builder, said).level(MLP, 16)
    assert equal(level, {path: Matrix(weight) for path, weight in before.items()})
    (text,) = said
    assert text.startswith(f"`{path}` is damaged (")
    assert text.endswith("made anew")
    opened(tmp_path, builder, said).level(MLP, 16)
    assert len(said) == 1


def test_too_many_values_are_damage(tmp_path: Path, builder: Counted) -> None:
    store, said = opened(tmp_path, builder), list[str]()
    store.level(MLP, 16, HALF)
    path = tmp_path / "layers.1.mlp" / "16-50%.safetensors"
    with level_store.safe_open(path, framework="pt") as file:
        marks = file.metadata()
    tensors = load_file(path)
    tensors["mlp.up_proj.values"] = torch.cat([tensors["mlp.up_proj.values"]] * 2)
    save_file(tensors, path, marks)
    opened(tmp_path, builder, said).level(MLP, 16, HALF)
    assert "512 values for 256 bits" in said[0]


def test_files_of_another_search_are_made_anew_and_told(tmp_path: Path, builder: Counted) -> None:
    LevelStore(tmp_path, builder, WIDTHS, digest="other").level(MLP, 16)
    said: list[str] = []
    store = opened(tmp_path, builder, said)
    builder.asked = []
    store.level(MLP, 16)
    # both widths are foreign, and built together
    assert builder.asked == [(MLP, [(16, DENSE), (32, DENSE)])]
    assert len(said) == 2
    assert all("is of another model, text or settings; made anew" in text for text in said)
    store.level(MLP, 32)
    assert len(said) == 2


def test_a_renamed_file_is_foreign(tmp_path: Path, builder: Counted) -> None:
    opened(tmp_path, builder).level(MLP, 16)
    folder = tmp_path / "layers.1.mlp"
    (folder / "16.safetensors").rename(tmp_path / "16.safetensors")
    (tmp_path / "layers.2.mlp").mkdir()
    (tmp_path / "16.safetensors").rename(tmp_path / "layers.2.mlp" / "16.safetensors")
    said: list[str] = []
    opened(tmp_path, builder, said).level(5, 16)
    assert len(said) == 1


def test_the_bound_is_kept_by_forgetting_what_was_not_read(
    tmp_path: Path, builder: Counted
) -> None:
    limit = 3 * DENSE_FILE + 2000  # three files of width 16, with their headers
    widths = [(0, 2), (0, 16, 48)] * 6
    store = LevelStore(tmp_path, builder, widths, digest="a", limit_bytes=limit)
    for position in (1, 3, 5):
        store.level(position, 16)
        assert store.bytes_held <= limit
    assert len(files(tmp_path)) == 3
    held = store.level(3, 16)
    store.level(1, 16)
    store.level(3, 16)
    store.level(7, 16)
    assert [name.split("/")[0] for name in files(tmp_path)] == [
        "layers.0.mlp",
        "layers.1.mlp",
        "layers.3.mlp",
    ]
    builder.asked = []
    store.level(5, 16)
    assert builder.asked == [(5, [(16, DENSE)])]
    # what was read stays, though its file is gone
    (expected,) = LevelBuilder.build(builder, 3, [(16, DENSE)])
    store.level(9, 16)
    store.level(11, 16)
    assert "layers.1.mlp/16.safetensors" not in files(tmp_path)
    assert equal(held, expected)


def test_a_bound_below_one_level_leaves_the_one_asked_for(
    tmp_path: Path, builder: Counted
) -> None:
    store = LevelStore(tmp_path, builder, WIDTHS, digest="a", limit_bytes=10)
    for position in (1, 3):
        level = store.level(position, 32)
        assert level["mlp.down_proj"].weight.shape == (32, 32)
        assert files(tmp_path) == [f"layers.{position // 2}.mlp/32.safetensors"]
    # widths that would push each other out are not built together
    assert builder.asked == [(1, [(32, DENSE)]), (3, [(32, DENSE)])]


def test_a_level_that_another_process_deletes_at_once_is_given(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path, builder)
    monkeypatch.setattr(store, "_shrink", lambda spared: spared.unlink())
    (expected,) = LevelBuilder.build(builder, MLP, [(16, DENSE)])
    assert equal(store.level(MLP, 16), expected)


def test_two_stores_on_one_folder_share_what_either_made(tmp_path: Path, builder: Counted) -> None:
    first, second = opened(tmp_path, builder), opened(tmp_path, builder)
    level = first.level(MLP, 16)
    builder.asked = []
    assert equal(second.level(MLP, 16), level)
    assert builder.asked == []
    (tmp_path / "layers.1.mlp" / "16.safetensors").unlink()
    assert equal(second.level(MLP, 16), level)
    assert equal(first.level(MLP, 16), level)


def test_a_limit_on_file_sizes_leaves_nothing_half_written(
    tmp_path: Path, builder: Counted
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="ulimit"):
            opened(tmp_path, builder).level(MLP, 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == []
    assert opened(tmp_path, builder).level(MLP, 16)


def test_a_full_disk_is_told_and_what_was_there_stays(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path, builder).level(MLP, 16)
    before = files(tmp_path)

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "refused")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match=r"No space left on device; free some space"):
        opened(tmp_path, builder).level(5, 16)
    assert files(tmp_path) == before


def test_a_place_that_is_a_file_is_refused(tmp_path: Path, builder: Counted) -> None:
    (tmp_path / "store").write_text("")
    with pytest.raises(OutputError, match="whose parents are folders"):
        opened(tmp_path / "store", builder).level(MLP, 16)


def test_what_a_killed_process_left_is_deleted(tmp_path: Path, builder: Counted) -> None:
    folder = tmp_path / "layers.1.mlp"
    folder.mkdir()
    dead, alive = (folder / f".16.{pid}.tmp.safetensors" for pid in (2**22 + 1, os.getpid()))
    dead.write_bytes(b"half")
    alive.write_bytes(b"half")
    opened(tmp_path, builder)
    assert files(tmp_path) == ["layers.1.mlp/" + alive.name]


class Large(LevelBuilder):
    """Gives a matrix of 64 MiB."""

    def __init__(self) -> None:
        self.blocks = dense("llama").sub_blocks
        self.dtype = torch.float32

    def is_plain(self, position: int, count: int, pattern: Pattern) -> bool:
        return False

    def shapes(self, position: int, count: int) -> dict[str, tuple[int, int]]:
        return {"mlp.down_proj": (4096, 4096)}

    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[Level]:
        for _ in choices:
            yield {"mlp.down_proj": Matrix(torch.ones(4096, 4096))}


def test_reading_a_level_maps_it_and_copies_nothing(tmp_path: Path) -> None:
    LevelStore(tmp_path, Large(), [(), (16,)], digest="a").level(1, 16)
    store, process = LevelStore(tmp_path, Large(), [(), (16,)], digest="a"), psutil.Process()

    def anonymous_and_mapped() -> tuple[int, int]:
        memory = process.memory_info()
        return memory.rss - memory.shared, memory.rss

    own, resident = anonymous_and_mapped()
    weight = store.level(1, 16)["mlp.down_proj"].weight
    after_own, after_resident = anonymous_and_mapped()
    assert after_resident - resident < 2**23
    assert float(weight.sum()) == 4096**2
    after_own, after_resident = anonymous_and_mapped()
    # it is in memory now, but as pages of the file, which the kernel may drop
    assert after_own - own < 2**23
    assert after_resident - resident > 2**25
    assert any(region.path.endswith("16.safetensors") for region in process.memory_maps())


def test_sparse_levels_in_memory_are_bounded(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(level_store, "UNPACKED_BYTES", 2 * 3 * 16 * 32 * 4)
    store = opened(tmp_path, builder)
    first = store.level(1, 16, HALF)
    second = store.level(3, 16, HALF)
    assert store.level(1, 16, HALF) is first
    store.level(5, 16, HALF)  # the second was not used for longest
    assert store.level(1, 16, HALF) is first
    assert store.level(3, 16, HALF) is not second


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("columns", [1, 8, 13])
def test_packing_gives_the_same_matrix_back(dtype: torch.dtype, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, columns, generator=generator).to(dtype)
    weight[torch.rand(5, columns, generator=generator) < 0.5] = 0
    weight[2] = 0
    bits, values = pack(weight)
    assert bits.nbytes == 5 * -(-columns // 8)
    assert len(values) == int((weight != 0).sum())
    assert torch.equal(unpack(bits, values, columns), weight)
