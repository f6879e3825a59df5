"""int8: values by hand, where it stands in the making of weights, and experts like projections."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.round_to_nearest import rounded_to_nearest
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import INT8
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import LayerStatistics
from search_spaces.structure.mixture import mixtures_of
from tests.models.pruned_weights import counted_builder, equal, files, opened
from tests.models.sorted_mixtures import expert_builder, sorted_model

MLP = 3
HALF = SparsityPattern(percent=50)


def by_hand(weight: Tensor, scale_dtype: torch.dtype = torch.float32) -> list[list[float]]:
    """Round one row after the other with Python's own arithmetic."""
    rows = []
    for row in weight.tolist():
        scale = float(torch.tensor(max(map(abs, row)) / 127).to(scale_dtype))
        steps = [max(-127, min(127, round(value / scale))) if scale else 0 for value in row]
        rows.append([step * scale for step in steps])
    return rows


@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_are_those_of_a_computation_by_hand(scale_dtype: torch.dtype) -> None:
    weight = torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    weight[2] = 0.0
    weight[3, 0] = -1000.0
    rounded = rounded_to_nearest(weight, INT8, scale_dtype)
    torch.testing.assert_close(rounded, torch.tensor(by_hand(weight, scale_dtype)))
    assert len(set(rounded[3].tolist())) <= 3  # one outlier takes the scale of its row
    stacked = rounded_to_nearest(torch.stack([weight, 2 * weight]), INT8, scale_dtype)
    assert torch.equal(stacked[0], rounded)
    assert torch.equal(stacked[1], 2 * rounded)


def test_a_row_that_underflows_is_zero_and_an_empty_matrix_stays() -> None:
    tiny = torch.tensor([[1e-30, -1e-30], [1.0, 0.5]])
    rounded = rounded_to_nearest(tiny, INT8, torch.float16)
    assert rounded[0].tolist() == [0.0, 0.0]
    assert torch.isfinite(rounded).all()
    assert rounded_to_nearest(torch.empty(3, 0), INT8, torch.float32).shape == (3, 0)


@pytest.mark.parametrize("pattern", [SparsityPattern(), HALF], ids=str)
@pytest.mark.parametrize("count", [16, 48])
def test_a_component_is_rounded_after_it_was_compensated_and_sparse(
    count: int, pattern: SparsityPattern, tmp_path: Path
) -> None:
    builder = counted_builder()
    exact = BlockOptions(pattern=pattern)
    options = BlockOptions(pattern=pattern, format=INT8)
    found = opened(tmp_path, builder).weights(MLP, count, options)
    assert set(found) == {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    ((before,),) = (list(builder.build(MLP, [(count, exact)])),)
    for path, matrix in before.items():
        expected = rounded_to_nearest(matrix.weight, INT8, torch.float32)
        assert torch.equal(found[path].weight, expected)
        assert ((matrix.weight == 0) <= (found[path].weight == 0)).all()
    assert equal(opened(tmp_path, builder).weights(MLP, count, options), found)
    assert f"layers.1.mlp/{count}-{options.weights_name}.safetensors" in files(tmp_path)


def test_weights_are_rounded_to_what_is_stored_once() -> None:
    counted = counted_builder()
    builder = WeightBuilder(counted._projections, dtype=torch.bfloat16)
    options = BlockOptions(format=INT8)
    (weights,) = builder.build(MLP, [(48, options)])
    (exact,) = counted._projections.build(MLP, [(48, options)])
    for path, matrix in weights.items():
        assert matrix.weight.dtype == torch.bfloat16
        once = rounded_to_nearest(exact[path].weight, INT8, torch.bfloat16).to(torch.bfloat16)
        assert torch.equal(matrix.weight, once)


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_every_expert_is_rounded_by_its_own_outputs(name: str) -> None:
    found, before, _ = sorted_model(name)
    builder = WeightBuilder(
        ProjectionBuilder(found, LayerStatistics.measured(before)), expert_builder(found, before)
    )
    component = mixtures_of(found.structure.components)[-1]
    position = found.structure.components.index(component)
    choices = [(4, BlockOptions(channels=8)), (4, BlockOptions(channels=8, format=INT8))]
    exact, rounded = builder.build(position, choices)
    for stack in component.stacks:
        one, other = exact[stack.path].weight, rounded[stack.path].weight
        if not stack.is_matrix:
            assert torch.equal(one, other)
            continue
        for expert in range(len(one)):
            matrix = stack.as_matrices(one)[expert]
            expected = rounded_to_nearest(matrix, INT8, torch.float32)
            assert torch.equal(stack.as_matrices(other)[expert], expected)
