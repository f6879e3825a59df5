"""What is scored is what is stored: matrices in number formats, in the making and in the cache."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig

from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.compensation import make_compensation
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.quantizers import make_quantizer
from search_spaces.pruned_weights.quantizers.vocabulary_builder import VocabularyBuilder
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.types import OrderedWeights, PrunedWeights, in_own_order
from search_spaces.reading.read import read_structure
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import FORMATS, NumberFormat
from search_spaces.space.sorted_model import SortedModel
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import LayerStatistics
from search_spaces.structure.linear import matrix
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut, narrowed
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens, run_layers
from tests.models.factory import GROUPED, make_model, twin
from tests.models.pruned_weights import RowMagnitude, measured, random_orders
from tests.models.sorted_mixtures import expert_builder, sorted_model

MLP = 1
Q4_0, Q8_0 = FORMATS["Q4_0"], FORMATS["Q8_0"]
HALF = SparsityPattern(percent=50)


@pytest.fixture(scope="module")
def structure() -> ModelStructure:
    """A Llama of two layers whose MLPs are two blocks wide."""
    config = LlamaConfig(**{**GROUPED, "intermediate_size": 64, "num_hidden_layers": 2})
    return read_structure(make_model(config)).with_ends()


@pytest.fixture(scope="module")
def sorted_twin(structure: ModelStructure) -> SortedModel:
    return sort_units_(twin(structure), random_orders(structure))


@pytest.fixture(scope="module")
def builder(structure: ModelStructure, sorted_twin: SortedModel) -> WeightBuilder:
    quantizer = make_quantizer("gptq")
    text = random_tokens(batch=16, length=16)
    projections = ProjectionBuilder(
        sorted_twin,
        LayerStatistics.measured(measured(structure, text)),
        compensation=make_compensation("obs"),
        rewriting=Rewriting(sparsifier=RowMagnitude(), quantizer=quantizer),
    )
    ends = VocabularyBuilder(sorted_twin.structure, make_quantizer("imatrix"))
    return WeightBuilder(projections, None, ends, dtype=torch.bfloat16)


def opened(folder: Path, builder: WeightBuilder) -> WeightCache:
    return WeightCache(folder, builder, [()] * len(builder.components), digest="a")


def assert_stored(weights: PrunedWeights, path: str, number_format: NumberFormat) -> None:
    """Check that a weight is what its bytes stand for."""
    quantized = weights[path].quantized
    assert quantized is not None
    assert quantized.format == number_format
    assert torch.equal(weights[path].weight, quantized.dequantized())


@pytest.mark.parametrize("pattern", [SparsityPattern(), HALF], ids=str)
@pytest.mark.parametrize("count", [32, 64])
def test_the_cache_holds_the_bytes(
    count: int, pattern: SparsityPattern, builder: WeightBuilder, tmp_path: Path
) -> None:
    options = BlockOptions(pattern=pattern, format=Q4_0)
    found = opened(tmp_path, builder).weights(MLP, count, options)
    again = opened(tmp_path, builder).weights(MLP, count, options)
    ((sparse,),) = (list(builder.build(MLP, [(count, BlockOptions(pattern=pattern))])),)
    assert set(found) == {f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    for path, each in found.items():
        assert_stored(found, path, Q4_0)
        assert_stored(again, path, Q4_0)
        assert torch.equal(each.weight, again[path].weight)
        if not pattern.is_dense:
            assert not bool(each.weight[sparse[path].weight == 0].any())
    (file,) = tmp_path.glob("layers.0.mlp/*.safetensors")
    content = 3 * 32 * count // 32 * 18  # 4.5 bits each
    assert content <= file.stat().st_size <= content + 2048  # the header beside them


def test_a_matrix_that_no_block_divides_is_stored_as_it_is(builder: WeightBuilder) -> None:
    ((weights,),) = (list(builder.build(MLP, [(48, BlockOptions(format=Q8_0))])),)
    assert_stored(weights, "mlp.up_proj", Q8_0)
    assert weights["mlp.down_proj"].quantized is None  # of 48 inputs
    assert weights["mlp.down_proj"].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("count", [32, 64])
def test_an_export_writes_what_was_scored(
    count: int, structure: ModelStructure, sorted_twin: SortedModel, builder: WeightBuilder
) -> None:
    tokens, options = random_tokens(), BlockOptions(format=Q4_0)
    order = sorted_twin.orders[MLP]
    (weights,) = builder.build(MLP, [(count, options)])
    kept = np.sort(order[:count])
    component = structure.components[MLP]
    layers = list(sorted_twin.structure.backbone.layers)
    whole = structure.components[0]
    scored = narrowed(layers[0], [(whole, whole.unit_count), (component, count)], weights)
    ordered = OrderedWeights(weights=weights, order=order)
    written = cut(
        structure.backbone.layers[0],
        [(whole, np.arange(whole.unit_count)), (component, kept)],
        [None, ordered],
    )
    exported = in_own_order(ordered, component, kept)
    for path, each in exported.items():
        assert each.quantized is not None
        numbers = each.quantized.dequantized()
        assert torch.equal(matrix(written.get_submodule(path)), numbers)
    own = list(structure.backbone.layers)
    torch.testing.assert_close(
        run_layers(structure, [written, own[1]], tokens),
        run_layers(sorted_twin.structure, [scored, layers[1]], tokens),
    )


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_every_expert_is_quantised_by_itself(name: str, tmp_path: Path) -> None:
    found, before, _ = sorted_model(name)
    experts = expert_builder(found, before, quantizer=make_quantizer("imatrix"))
    builder = WeightBuilder(ProjectionBuilder(found, LayerStatistics.measured(before)), experts)
    component = mixtures_of(found.structure.components)[-1]
    position = found.structure.components.index(component)
    options = BlockOptions(channels=8, format=Q8_0)
    (exact,) = builder.build(position, [(4, BlockOptions(channels=8))])
    weights = opened(tmp_path, builder).weights(position, 4, options)
    again = opened(tmp_path, builder).weights(position, 4, options)
    for stack in component.stacks:
        one, other = exact[stack.path].weight, weights[stack.path]
        assert torch.equal(other.weight, again[stack.path].weight)
        if stack.role != "up":  # biases, and rows of eight channels
            assert other.quantized is None
            assert torch.equal(one, other.weight)
            continue
        assert other.quantized is not None
        numbers = other.quantized.dequantized()
        assert torch.equal(stack.as_matrices(other.weight), numbers)
        for expert, dense in enumerate(stack.as_matrices(one)):
            step = dense.unflatten(1, (-1, 32)).abs().amax(dim=2, keepdim=True) / 127
            gap = (numbers[expert] - dense).abs().unflatten(1, (-1, 32))
            # half a step, and 127 times what float16 rounds a scale by
            assert bool((gap <= (0.5 + 127 * 2**-11) * step).all())


def test_the_embedding_is_quantised_whole(
    structure: ModelStructure, builder: WeightBuilder, tmp_path: Path
) -> None:
    position = next(
        i for i, component in enumerate(structure.components) if component.kind == "embedding"
    )
    weights = opened(tmp_path, builder).weights(position, 1, BlockOptions(format=Q8_0))
    ((path, found),) = weights.items()
    assert path == "model.embed_tokens"
    assert_stored(weights, path, Q8_0)
    dense = structure.backbone.model.get_input_embeddings().weight
    assert isinstance(dense, torch.Tensor)
    assert found.weight.shape == dense.shape
    assert float((found.weight - dense).abs().max()) <= 0.51 * float(dense.abs().max()) / 127
    assert (tmp_path / "embedding" / "1-Q8_0.safetensors").is_file()
