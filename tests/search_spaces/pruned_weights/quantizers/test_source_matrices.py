"""Matrices of a quantised GGUF file stay as they came, and what is cut is quantised anew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from search_spaces.errors import ModelError
from search_spaces.models.fingerprint import lasting
from search_spaces.models.on_disk.gguf_source import GgufSource
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.quantizers import make_quantizer
from search_spaces.pruned_weights.quantizers.source_matrices import SourceMatrices
from search_spaces.pruned_weights.quantizers.vocabulary_builder import VocabularyBuilder
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.types import OrderedWeights, in_own_order
from search_spaces.reading.read import read_structure
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import FORMATS, SOURCE, STORED
from search_spaces.statistics import LayerStatistics
from search_spaces.structure.linear import matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut, narrowed
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens, run_layers
from tests.models.factory import GROUPED, make_model, twin
from tests.models.pruned_weights import measured, random_orders

ATTENTION, MLP = 0, 1
NAMES = {
    "model.embed_tokens": ("token_embd", "Q8_0"),
    "lm_head": ("output", "F16"),
    "model.layers.0.self_attn.q_proj": ("blk.0.attn_q", "Q4_1"),
    "model.layers.0.self_attn.k_proj": ("blk.0.attn_k", "Q5_0"),
    "model.layers.0.self_attn.v_proj": ("blk.0.attn_v", "Q8_0"),
    "model.layers.0.self_attn.o_proj": ("blk.0.attn_output", "Q4_1"),
    "model.layers.0.mlp.gate_proj": ("blk.0.ffn_gate", "Q4_0"),
    "model.layers.0.mlp.up_proj": ("blk.0.ffn_up", "Q4_0"),
    "model.layers.0.mlp.down_proj": ("blk.0.ffn_down", "Q5_1"),
}
HEADS = {"q_proj": 4, "k_proj": 2}


def _as_llama(name: str, weight: Tensor) -> Tensor:
    """Return the rows of a matrix as llama.cpp's converter orders them for rotary positions."""
    heads = HEADS.get(name.rpartition(".")[2])
    if heads is None:
        return weight
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("source")


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    """A Llama whose matrices are what a file, ``tiny.gguf``, holds of them in bfloat16."""
    config = LlamaConfig(
        **{**GROUPED, "intermediate_size": 64, "num_hidden_layers": 1}, tie_word_embeddings=False
    )
    made = make_model(config)
    writer = GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_block_count(1)
    for name, (place, kind) in NAMES.items():
        rows = _as_llama(name, made.get_parameter(f"{name}.weight").detach()).numpy()
        of_kind = GGMLQuantizationType[kind]
        data = quants.quantize(rows, of_kind)
        writer.add_tensor(f"{place}.weight", data, raw_dtype=of_kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors = {tensor.name: tensor for tensor in GGUFReader(folder / "tiny.gguf").tensors}
    for name, (place, _) in NAMES.items():
        tensor = tensors[f"{place}.weight"]
        numbers = torch.from_numpy(np.array(quants.dequantize(tensor.data, tensor.tensor_type)))
        weight = made.get_parameter(f"{name}.weight")
        heads = HEADS.get(name.rpartition(".")[2])
        if heads is not None:
            numbers = numbers.view(heads, -1, 2, numbers.shape[1]).transpose(1, 2).flatten(0, 2)
        weight.data = numbers.float().bfloat16().float()
    return made


@pytest.fixture(scope="module")
def source(folder: Path, model: PreTrainedModel) -> GgufSource:
    shapes = {name: tuple(weight.shape) for name, weight in lasting(model).items()}
    return GgufSource(folder / "tiny.gguf", shapes)


@pytest.fixture(scope="module")
def structure(model: PreTrainedModel) -> ModelStructure:
    return read_structure(model).with_ends()


@pytest.fixture(scope="module")
def builder(structure: ModelStructure, source: GgufSource) -> WeightBuilder:
    sources = SourceMatrices(source, torch.float32)
    quantizer = make_quantizer("rtn")
    sorted_twin = sort_units_(twin(structure), random_orders(structure))
    projections = ProjectionBuilder(
        sorted_twin,
        LayerStatistics.measured(measured(structure, random_tokens(batch=16, length=16))),
        rewriting=Rewriting(quantizer=quantizer),
        sources=sources,
    )
    ends = VocabularyBuilder(sorted_twin.structure, quantizer, sources)
    return WeightBuilder(projections, None, ends)


def held(folder: Path, name: str) -> Tensor:
    """Return the bytes of a matrix in the file, in the order of the model's rows."""
    place = f"{NAMES[name][0]}.weight"
    tensors = GGUFReader(folder / "tiny.gguf").tensors
    data = torch.from_numpy(np.array(next(t.data for t in tensors if t.name == place)))
    heads = HEADS.get(name.rpartition(".")[2])
    if heads is None:
        return data
    return data.view(heads, -1, 2, data.shape[1]).transpose(1, 2).flatten(0, 2)


def test_types_are_those_of_quantised_matrices(source: GgufSource) -> None:
    expected = {f"{name}.weight": kind for name, (_, kind) in NAMES.items() if kind != "F16"}
    assert source.types == expected
    assert SourceMatrices(source, torch.float32).format_of("lm_head.weight") == STORED


@pytest.mark.parametrize("position", [ATTENTION, MLP])
def test_a_whole_component_stays_as_it_came(
    position: int, structure: ModelStructure, builder: WeightBuilder, folder: Path, tmp_path: Path
) -> None:
    component = structure.components[position]
    whole, options = component.unit_count, BlockOptions(format=SOURCE)
    cache = WeightCache(tmp_path, builder, [()] * len(structure.components), digest="a")
    made = cache.weights(position, whole, options)
    weights = WeightCache(tmp_path, builder, [()] * 4, digest="a").weights(
        position, whole, options
    )
    order = builder._projections._orders[position]
    kept = np.arange(whole)
    exported = in_own_order(OrderedWeights(weights=weights, order=order), component, kept)
    sorted_layer = builder._projections._structure.backbone.layers[0]
    for projection in component.projections:
        path, name = projection.path, f"model.layers.0.{projection.path}"
        quantized = exported[path].quantized
        assert quantized is not None
        assert quantized.format == FORMATS[NAMES[name][1]]
        assert torch.equal(quantized.data, held(folder, name))
        assert torch.equal(exported[path].weight, quantized.dequantized())
        # the dense model's weights are these, rounded to bfloat16
        dense = matrix(sorted_layer.get_submodule(path))
        assert torch.equal(weights[path].weight.bfloat16().float(), dense)
        assert torch.equal(weights[path].weight, made[path].weight)


def test_exports_compute_what_was_scored(
    structure: ModelStructure, builder: WeightBuilder
) -> None:
    options, tokens = BlockOptions(format=SOURCE), random_tokens()
    weights = [
        next(builder.build(position, [(structure.components[position].unit_count, options)]))
        for position in (ATTENTION, MLP)
    ]
    components = structure.components[:2]
    sorted_backbone = builder._projections._structure.backbone
    scored = narrowed(
        sorted_backbone.layers[0],
        [(component, component.unit_count) for component in components],
        {**weights[0], **weights[1]},
    )
    orders = builder._projections._orders
    written = cut(
        structure.backbone.layers[0],
        [(component, np.arange(component.unit_count)) for component in components],
        [OrderedWeights(weights=w, order=orders[i]) for i, w in enumerate(weights)],
    )
    torch.testing.assert_close(
        run_layers(structure, [written], tokens), run_layers(structure, [scored], tokens)
    )


def test_rows_that_are_kept_stay_and_cut_ones_are_made_anew(
    structure: ModelStructure, builder: WeightBuilder, folder: Path
) -> None:
    (weights,) = builder.build(MLP, [(32, BlockOptions(format=SOURCE))])
    order = builder._projections._orders[MLP]
    for name in ("gate", "up"):
        quantized = weights[f"mlp.{name}_proj"].quantized
        assert quantized is not None
        came = held(folder, f"model.layers.0.mlp.{name}_proj")
        assert torch.equal(quantized.data, came[torch.from_numpy(order[:32])])
    down = weights["mlp.down_proj"]
    assert down.quantized is not None
    assert down.quantized.format == FORMATS["Q5_1"]
    dense = matrix(
        builder._projections._structure.backbone.layers[0].get_submodule("mlp.down_proj")
    )
    expected = quants.quantize(dense[:, :32].contiguous().numpy(), GGMLQuantizationType.Q5_1)
    assert np.array_equal(down.quantized.data.numpy(), expected)


def test_the_embedding_stays_and_a_head_that_is_not_quantised_is_plain(
    structure: ModelStructure, builder: WeightBuilder, folder: Path
) -> None:
    kinds = [component.kind for component in structure.components]
    options = BlockOptions(format=SOURCE)
    (embedding,) = builder.build(kinds.index("embedding"), [(1, options)])
    (head,) = builder.build(kinds.index("head"), [(1, options)])
    quantized = embedding["model.embed_tokens"].quantized
    assert quantized is not None
    assert torch.equal(quantized.data, held(folder, "model.embed_tokens"))
    assert head["lm_head"].quantized is None


def test_a_file_that_holds_something_else_is_refused(
    source: GgufSource, model: PreTrainedModel
) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    other = model.get_parameter(name).detach() + 1.0
    with pytest.raises(ModelError, match=r"must hold what the file does.*up_proj.* differs"):
        SourceMatrices(source, torch.float32).matrix(name, other)
