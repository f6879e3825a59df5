"""Weights of experts come from the same cache as those of projections."""

from pathlib import Path

import pytest
import torch

from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import LayerStatistics
from search_spaces.structure.mixture import mixtures_of
from tests.models.pruned_weights import equal, files
from tests.models.sorted_mixtures import expert_builder, sorted_model

HALF = SparsityPattern(percent=50)
CHOICES = (
    (4, BlockOptions()),
    (4, BlockOptions(channels=8)),
    (4, BlockOptions(pattern=HALF)),
    (8, BlockOptions(pattern=HALF, channels=8)),
)


def _cache(folder: Path, name: str, limit_bytes: int = 10**9) -> tuple[WeightCache, int]:
    """Return a cache of a mixture's merged and sparse weights, and the position of its last."""
    found, before, _ = sorted_model(name)
    builder = WeightBuilder(
        ProjectionBuilder(found, LayerStatistics.measured(before)), expert_builder(found, before)
    )
    components = found.structure.components
    cache = WeightCache(
        folder, builder, [()] * len(components), digest="a", limit_bytes=limit_bytes
    )
    return cache, components.index(mixtures_of(components)[-1])


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_experts_are_stored_as_they_were_built(name: str, tmp_path: Path) -> None:
    found, before, _ = sorted_model(name)
    builder = expert_builder(found, before)
    for count, options in CHOICES:
        cache, position = _cache(tmp_path, name)
        (expected,) = builder.build(position, [(count, options)])
        assert equal(cache.weights(position, count, options), expected)
        fresh, _ = _cache(tmp_path, name)
        assert equal(fresh.weights(position, count, options), expected)
        shapes = builder.shapes(position, count, options)
        assert {path: tuple(m.weight.shape) for path, m in expected.items()} == dict(shapes)
    layer = found.structure.components[position].name
    assert files(tmp_path) == [
        f"{layer}/{name}.safetensors" for name in ("4-50%", "4-8ch", "4", "8-50%-8ch")
    ]


def test_what_is_a_slice_or_runs_fewer_experts_takes_no_file(tmp_path: Path) -> None:
    cache, position = _cache(tmp_path, "mixtral")
    for count, options in ((0, BlockOptions()), (8, BlockOptions(channels=8, top_k=1))):
        assert cache.weights(position, count, options) == {}
    assert files(tmp_path) == []
    two = cache.weights(position, 4, BlockOptions())
    one = cache.weights(position, 4, BlockOptions(top_k=1))
    assert equal(one, two)
    assert len(files(tmp_path)) == 1


def test_the_bound_holds_for_experts(tmp_path: Path) -> None:
    free, position = _cache(tmp_path / "free", "mixtral")
    free.weights(position, 4)
    cache, _ = _cache(tmp_path / "bound", "mixtral", limit_bytes=free.bytes_held + 100)
    for count in (4, 3, 2):
        cache.weights(position, count)
        assert cache.bytes_held <= free.bytes_held + 100
    assert [name.split("/")[1] for name in files(tmp_path / "bound")] == ["2.safetensors"]


def test_a_flipped_byte_of_experts_is_found_and_made_anew(
    tmp_path: Path, notices: list[str]
) -> None:
    cache, position = _cache(tmp_path, "mixtral")
    before = {path: m.weight.clone() for path, m in cache.weights(position, 4).items()}
    (path,) = tmp_path.glob("*/4.safetensors")
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    fresh, _ = _cache(tmp_path, "mixtral")
    after = fresh.weights(position, 4)
    assert all(torch.equal(after[place].weight, weight) for place, weight in before.items())
    assert notices == [f"`{path}` is damaged; made anew"]


def test_mapped_tensors_are_aligned_as_those_of_torch(tmp_path: Path) -> None:
    cache, position = _cache(tmp_path, "mixtral")
    for count in (2, 3, 4):
        for matrix in cache.weights(position, count).values():
            assert matrix.weight.data_ptr() % 64 == 0
    for path in tmp_path.glob("*/*.safetensors"):
        header = int.from_bytes(path.read_bytes()[:8], "little")
        assert (8 + header) % 64 == 0
