"""Weights that are built again are held against those that were used first."""

from pathlib import Path

import pytest
import torch

from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.types import LinearWeights
from search_spaces.pruned_weights.weight_record import WeightRecord
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sparsity import SparsityPattern
from tests.models.pruned_weights import WIDTHS, Counted, counted_builder

MLP = 3
HALF = BlockOptions(pattern=SparsityPattern(percent=50))


def opened(folder: Path, builder: Counted) -> tuple[WeightCache, WeightRecord]:
    record = WeightRecord(folder / "weights.jsonl", "a")
    cache = WeightCache(folder / "levels", builder, WIDTHS, digest="a", record=record)
    return cache, record


@pytest.mark.parametrize("options", [BlockOptions(), HALF], ids=str)
def test_weights_that_are_built_again_alike_are_those_that_were_scored(
    tmp_path: Path, options: BlockOptions
) -> None:
    cache, _ = opened(tmp_path, counted_builder())
    cache.weights(MLP, 16, options)
    for path in tmp_path.glob("levels/*/*.safetensors"):
        path.unlink()
    again, record = opened(tmp_path, counted_builder())
    again.weights(MLP, 16, options)
    assert record.differences == {}
    lines = (tmp_path / "weights.jsonl").read_text().split()
    assert len([line for line in lines if line]) > 0


@pytest.mark.parametrize("options", [BlockOptions(), HALF], ids=str)
def test_weights_that_come_out_otherwise_are_named_with_the_difference(
    tmp_path: Path, options: BlockOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, _ = opened(tmp_path, counted_builder())
    before = {path: m.weight.clone() for path, m in cache.weights(MLP, 16, options).items()}
    for path in tmp_path.glob("levels/*/*.safetensors"):
        path.unlink()
    builder = counted_builder()
    other = {path: LinearWeights(weight + 0.5) for path, weight in before.items()}
    monkeypatch.setattr(
        builder, "build", lambda _position, choices, _compensated: (other for _ in choices)
    )
    again, record = opened(tmp_path, builder)
    again.weights(MLP, 16, options)
    assert list(record.differences.values()) == [pytest.approx(0.5)]
    assert list(record.differences) == [f"layers.1.mlp 16 {options}"]
    # they are stored now, and still are not what was scored
    stored, later = opened(tmp_path, builder)
    stored.weights(MLP, 16, options)
    assert later.differences == record.differences
    later.differences.clear()
    stored.weights(MLP, 16, options)
    assert later.differences == record.differences


def test_a_record_of_other_weights_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "weights.jsonl"
    ones, twos = ({"up": LinearWeights(torch.full((2, 2), value))} for value in (1.0, 2.0))
    WeightRecord(path, "a").note("layers.0.mlp 1 dense", "f00d", ones)
    record = WeightRecord(path, "b")
    record.note("layers.0.mlp 1 dense", "cafe", twos)
    assert record.differences == {}
    first = WeightRecord(path, "a")
    first.note("layers.0.mlp 1 dense", "cafe", twos)
    assert first.differences == {"layers.0.mlp 1 dense": 1.0}


@pytest.mark.parametrize("damage", [b'\n{"of": "a", "wei', b"\n[]", b"\n\xff\xfe", b"\n{}"])
def test_a_damaged_line_is_named_and_the_rest_is_read(
    tmp_path: Path, damage: bytes, notices: list[str]
) -> None:
    path = tmp_path / "weights.jsonl"
    ones, twos = ({"up": LinearWeights(torch.full((2, 2), value))} for value in (1.0, 2.0))
    record = WeightRecord(path, "a")
    record.note("first", "f00d", ones)
    with path.open("ab") as file:
        file.write(damage)
    record.note("second", "f00d", ones)
    again = WeightRecord(path, "a")
    again.note("first", "f00d", ones)
    again.note("second", "cafe", twos)
    assert again.differences == {"second": 1.0}
    assert len(notices) == 1
    assert str(path) in notices[0]


def test_a_matrix_of_more_numbers_than_float32_counts_is_sampled(tmp_path: Path) -> None:
    record = WeightRecord(tmp_path / "weights.jsonl", "a")
    large = torch.zeros(2**24 + 4, 1, dtype=torch.bfloat16)
    large[-1] = 1.0
    record.note("embedding", "digest", {"embed_tokens": LinearWeights(large)})
    record.note("embedding", "other", {"embed_tokens": LinearWeights(torch.zeros_like(large))})
    assert list(record.differences.values()) == [1.0]
