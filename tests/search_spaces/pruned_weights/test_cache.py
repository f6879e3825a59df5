"""Pruned weights on disk: made once, mapped, bounded, and never half-written."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
import torch

from search_spaces.pruned_weights import recent
from search_spaces.pruned_weights.bitmask import pack, unpack
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from tests.models.families import dense
from tests.models.pruned_weights import WIDTHS, Counted, counted_builder, equal, files, opened
from tests.progress import RecordedProgress

DENSE = BlockOptions()
HALF = BlockOptions(pattern=SparsityPattern(percent=50))
PAIRS = BlockOptions(pattern=SparsityPattern(keep=2, group=4))
MLP = 3
"""Position of a component of 48 channels and 32 hidden features."""
DENSE_FILE = 16 * 32 * 4


@pytest.fixture
def builder() -> Counted:
    made = counted_builder()
    made.asked = []
    return made


def test_what_is_stored_is_what_was_built(tmp_path: Path, builder: Counted) -> None:
    store = opened(tmp_path, builder)
    for position, count, pattern in ((3, 32, DENSE), (3, 48, HALF), (2, 1, HALF), (3, 16, PAIRS)):
        (expected,) = WeightBuilder.build(builder, position, [(count, pattern)])
        for _ in range(2):
            assert equal(store.weights(position, count, pattern), expected)
        fresh = opened(tmp_path, builder)
        assert equal(fresh.weights(position, count, pattern), expected)


def test_weights_are_built_on_first_use_and_once(tmp_path: Path, builder: Counted) -> None:
    store = opened(tmp_path, builder)
    assert builder.asked == []
    store.weights(MLP, 16)
    assert builder.asked == [(MLP, [(16, DENSE), (32, DENSE)])]
    store.weights(MLP, 32)
    store.weights(MLP, 32, HALF)
    store.weights(MLP, 32, HALF)
    opened(tmp_path, builder).weights(MLP, 32, HALF)
    assert builder.asked[1:] == [(MLP, [(32, HALF)])]
    assert files(tmp_path) == [
        "layers.1.mlp/16.safetensors",
        "layers.1.mlp/32-50%.safetensors",
        "layers.1.mlp/32.safetensors",
    ]


def test_what_is_made_is_told_with_its_count(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, store = RecordedProgress(), opened(tmp_path, builder)
    monkeypatch.setattr(builder, "_progress", progress)
    monkeypatch.setattr(builder, "_made_count", 0)
    store.weights(MLP, 16)
    store.weights(MLP, 32)  # was made with it
    store.weights(MLP, 32, HALF)
    assert progress.notes == [
        "making weights (0 made so far): layers.1.mlp, 16 kept (1 of 2)",
        "making weights (1 made so far): layers.1.mlp, 32 kept (2 of 2)",
        "making weights (2 made so far): layers.1.mlp, 32 kept, 50%",
    ]


def test_slices_take_no_file(tmp_path: Path, builder: Counted) -> None:
    store = opened(tmp_path, builder)
    for count, pattern in ((0, DENSE), (0, HALF), (48, DENSE)):
        assert store.weights(MLP, count, pattern) == {}
    assert files(tmp_path) == []


def test_a_width_besides_the_planned_ones_is_built_too(tmp_path: Path, builder: Counted) -> None:
    weights = opened(tmp_path, builder).weights(MLP, 20)
    assert weights["mlp.down_proj"].weight.shape == (32, 20)
    assert builder.asked == [(MLP, [(16, DENSE), (20, DENSE), (32, DENSE)])]


def test_all_can_be_built_at_once(tmp_path: Path, builder: Counted) -> None:
    store, progress = opened(tmp_path, builder), RecordedProgress()
    store.build_all([2, 3], [DENSE, HALF], progress)
    assert progress.counts == [(1, 2), (2, 2)]
    # attention: one narrow width, sparse at both; MLP: two, sparse at three
    assert len(files(tmp_path)) == 1 + 2 + 2 + 3
    builder.asked = []
    store.build_all([2, 3], [DENSE, HALF])
    assert builder.asked == []
    store.build_all()
    assert len({path.split("/")[0] for path in files(tmp_path)}) == len(WIDTHS)


def test_a_compensation_that_fell_back_is_remembered_as_a_slice(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder, "build", lambda _position, choices, _: ({} for _ in choices))
    assert opened(tmp_path, builder).weights(MLP, 16) == {}
    monkeypatch.undo()
    assert opened(tmp_path, builder).weights(MLP, 16) == {}
    assert builder.asked == []


def test_the_bound_is_kept_by_forgetting_what_was_not_read(
    tmp_path: Path, builder: Counted
) -> None:
    limit = 3 * DENSE_FILE + 2000  # three files of width 16, with their headers
    widths = [(0, 2), (0, 16, 48)] * 6
    store = WeightCache(tmp_path, builder, widths, digest="a", limit_bytes=limit)
    for position in (1, 3, 5):
        store.weights(position, 16)
        assert store.bytes_held <= limit
    assert len(files(tmp_path)) == 3
    held = store.weights(3, 16)
    store.weights(1, 16)
    store.weights(3, 16)
    store.weights(7, 16)
    assert [name.split("/")[0] for name in files(tmp_path)] == [
        "layers.0.mlp",
        "layers.1.mlp",
        "layers.3.mlp",
    ]
    builder.asked = []
    store.weights(5, 16)
    assert builder.asked == [(5, [(16, DENSE)])]
    # what was read stays, though its file is gone
    (expected,) = WeightBuilder.build(builder, 3, [(16, DENSE)])
    store.weights(9, 16)
    store.weights(11, 16)
    assert "layers.1.mlp/16.safetensors" not in files(tmp_path)
    assert equal(held, expected)


def test_a_bound_below_one_file_leaves_the_one_in_use(tmp_path: Path, builder: Counted) -> None:
    store = WeightCache(tmp_path, builder, WIDTHS, digest="a", limit_bytes=10)
    for position in (1, 3):
        weights = store.weights(position, 32)
        assert weights["mlp.down_proj"].weight.shape == (32, 32)
        assert files(tmp_path) == [f"layers.{position // 2}.mlp/32.safetensors"]
    # widths that would push each other out are not built together
    assert builder.asked == [(1, [(32, DENSE)]), (3, [(32, DENSE)])]


def test_where_not_all_widths_fit_the_nearest_ones_are_built_together(
    tmp_path: Path, builder: Counted
) -> None:
    widths = [(0, 2), (0, 8, 16, 24, 48)] * 6
    limit = (24 + 16) * 32 * 4
    store = WeightCache(tmp_path, builder, widths, digest="a", limit_bytes=limit)
    store.weights(MLP, 24)
    assert builder.asked == [(MLP, [(16, DENSE), (24, DENSE)])]


class Large(WeightBuilder):
    """Gives a matrix of 64 MiB."""

    def __init__(self) -> None:
        self.components = dense("llama").components
        self.dtype = torch.float32

    def is_plain(self, position: int, count: int, options: BlockOptions) -> bool:
        return False

    def shapes(
        self, position: int, count: int, options: BlockOptions
    ) -> dict[str, tuple[int, ...]]:
        return {"mlp.down_proj": (4096, 4096)}

    def build(
        self,
        position: int,
        choices: Sequence[Choice],
        compensated: PrunedWeights | None = None,
    ) -> Iterator[PrunedWeights]:
        for _ in choices:
            yield {"mlp.down_proj": LinearWeights(torch.ones(4096, 4096))}


def test_reading_weights_maps_them_and_copies_nothing(tmp_path: Path) -> None:
    WeightCache(tmp_path, Large(), [(), (16,)], digest="a").weights(1, 16)
    store, process = WeightCache(tmp_path, Large(), [(), (16,)], digest="a"), psutil.Process()

    def anonymous_and_mapped() -> tuple[int, int]:
        memory = process.memory_info()
        return memory.rss - memory.shared, memory.rss

    own, resident = anonymous_and_mapped()
    weight = store.weights(1, 16)["mlp.down_proj"].weight
    after_own, after_resident = anonymous_and_mapped()
    assert after_resident - resident < 2**23
    assert float(weight.sum()) == 4096**2
    after_own, after_resident = anonymous_and_mapped()
    # it is in memory now, but as pages of the file, which the kernel may drop
    assert after_own - own < 2**23
    assert after_resident - resident > 2**25
    assert any(region.path.endswith("16.safetensors") for region in process.memory_maps())


def test_sparse_weights_in_memory_are_bounded(
    tmp_path: Path, builder: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "MEMORY_BYTES", 2 * 3 * 16 * 32 * 4)
    store = opened(tmp_path, builder)
    first = store.weights(1, 16, HALF)
    second = store.weights(3, 16, HALF)
    assert store.weights(1, 16, HALF) is first
    store.weights(5, 16, HALF)  # the second was not used for longest
    assert store.weights(1, 16, HALF) is first
    assert store.weights(3, 16, HALF) is not second


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
