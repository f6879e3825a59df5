"""Number formats that a plan chooses: written as scored, served, and made again by llama.cpp."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader, dequantize

from planner.targets.cut_layers import CutLayers, logits_of_layers
from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import blocks_of
from planner.targets.gguf.gguf_runtime import served
from planner.targets.gguf.gguf_target import _holds
from search_spaces.errors import TargetError
from search_spaces.models.fingerprint import lasting
from search_spaces.models.on_disk.gguf_source import GgufSource
from search_spaces.pruned_weights.quantizers.source_matrices import SourceMatrices
from search_spaces.space.number_format import FORMATS
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, random_tokens
from tests.models.families import FAMILIES, dense
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.targets.in_formats import in_formats, quantized

MIXED = {"attention": "Q8_0", "mlp": "Q4_1", "embedding": "Q5_0", "head": "Q4_0"}


def written(cut: CutLayers, path: Path, number_type: str = "F16") -> dict[str, str]:
    """Write a plan, in F32 what its bytes stand for; return the type of each tensor."""
    in_full = number_type == "F32"
    model = GgufModel(
        structure=cut.structure,
        blocks=blocks_of(cut.structure, cut.layers, () if in_full else cut.quantized),
        quantized={} if in_full else cut.quantized_ends,
    )
    write_file(path, model, number_type)  # type: ignore[arg-type]
    return {each.name: each.tensor_type.name for each in GGUFReader(path).tensors}


def whole(structure: ModelStructure) -> list[np.ndarray]:
    return [np.arange(component.member_count) for component in structure.components]


def numbers(path: Path) -> dict[str, np.ndarray]:
    return {
        each.name: np.array(dequantize(each.data, each.tensor_type))
        for each in GGUFReader(path).tensors
    }


def test_each_tensor_has_the_type_that_the_plan_chose(tmp_path: Path) -> None:
    types = written(in_formats(dense("llama"), whole(dense("llama")), MIXED), tmp_path / "m.gguf")
    assert types["token_embd.weight"] == "Q5_0"
    assert types["output.weight"] == "Q4_0"
    for part in ("q", "k", "v", "output"):
        assert types[f"blk.1.attn_{part}.weight"] == "Q8_0"
    assert types["blk.1.ffn_gate.weight"] == types["blk.1.ffn_up.weight"] == "Q4_1"
    # 48 inputs, which no block of 32 divides, as the dense model has them; and vectors
    assert types["blk.1.ffn_down.weight"] == "F16"
    assert types["blk.1.attn_norm.weight"] == "F32"


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3-tied", "gpt2"])
def test_what_is_served_computes_what_was_scored(family: str, tmp_path: Path) -> None:
    name, _, tied = family.partition("-")
    structure = FAMILIES[name].structure(tie_word_embeddings=True) if tied else dense(name)
    kept = irregular_plan(FAMILIES[name]) if name != "gpt2" else whole(structure)
    cut = in_formats(structure, kept, MIXED)
    path, tokens = tmp_path / "m.gguf", random_tokens()
    written(cut, path, "F32")
    expected = logits_of_layers(cut.structure, cut.layers, tokens).numpy()
    with served(path, threads=1, cache_type="F32") as model:
        gap = np.abs(model.logits(tokens.numpy()) - expected).max()
    # a table of float16 gives GELU
    assert gap < (5e-3 if name == "gpt2" else 5e-5) * expected.std()
    exact = numbers(path)
    types = written(cut, path, "F16")
    chosen = [name for name, kind in types.items() if kind in MIXED.values()]
    assert "token_embd.weight" in chosen
    assert len(chosen) > 8
    stored = numbers(path)
    for tensor in chosen:
        np.testing.assert_array_equal(stored[tensor], exact[tensor])


def test_rows_are_turned_in_their_bytes(tmp_path: Path) -> None:
    structure = dense("llama")
    cut = in_formats(structure, whole(structure), {"attention": "Q8_0"})
    written(cut, tmp_path / "m.gguf")
    turned = numbers(tmp_path / "m.gguf")["blk.0.attn_q.weight"]
    matrix = cut.quantized[0]["self_attn.q_proj.weight"].dequantized().numpy()
    # of a head of 8 features the halves alternate: 0 4 1 5 2 6 3 7
    halves = matrix.reshape(-1, 2, 4, matrix.shape[-1]).swapaxes(1, 2).reshape(matrix.shape)
    np.testing.assert_array_equal(turned, halves)


def test_one_matrix_of_several_formats_is_refused_in_a_sentence(tmp_path: Path) -> None:
    """As of a file whose values are in more bits than its queries, where layers differ."""
    structure = FAMILIES["qwen3"].structure(tie_word_embeddings=True)
    cut = in_formats(structure, irregular_plan(FAMILIES["qwen3"]), {"attention": "Q8_0"})
    values = "self_attn.v_proj.weight"
    layer = next(each for each in cut.quantized if values in each)
    layer[values] = quantized(layer[values].dequantized(), FORMATS["Q4_1"])  # type: ignore[index]
    with pytest.raises(TargetError, match="in this plan they are in Q4_1 and Q8_0; search") as no:
        written(cut, tmp_path / "m.gguf")
    assert len(str(no.value)) <= 300
    assert _holds(structure, None).fuses == {"attention"}
    assert not _holds(dense("llama"), None).fuses


def test_stacks_of_experts_are_in_formats(tmp_path: Path) -> None:
    structure = MOE_FAMILIES["qwen3-moe"].structure(mlp_only_layers=[])
    cut = in_formats(structure, whole(structure), {"experts": "Q8_0"})
    types = written(cut, tmp_path / "m.gguf")
    assert types["blk.0.ffn_gate_exps.weight"] == types["blk.0.ffn_up_exps.weight"] == "Q8_0"
    assert types["blk.0.ffn_gate_inp.weight"] == "F32"
    tokens = random_tokens()
    written(cut, tmp_path / "m.gguf", "F32")
    expected = logits_of_layers(cut.structure, cut.layers, tokens).numpy()
    with served(tmp_path / "m.gguf", threads=1, cache_type="F32") as model:
        gap = np.abs(model.logits(tokens.numpy()) - expected).max()
    assert gap < 5e-5 * expected.std()


def test_a_cache_of_fewer_bits_is_served(tmp_path: Path) -> None:
    structure = FAMILIES["llama"].structure(head_dim=32)
    cut = in_formats(structure, whole(structure), {})
    path, tokens = tmp_path / "m.gguf", random_tokens().numpy()
    written(cut, path, "F32")
    logits = {}
    for cache_type in ("F32", "F16", "Q8_0", "Q4_0"):
        with served(path, threads=1, cache_type=cache_type) as model:
            logits[cache_type] = model.logits(tokens)
    gaps = [float(np.square(logits[name] - logits["F32"]).mean()) for name in logits]
    assert gaps[0] < gaps[1] < gaps[2] < gaps[3]


def test_the_dense_model_stays_as_it_was() -> None:
    structure = dense("llama")
    tokens = random_tokens()
    before = structure.backbone.model(tokens).logits
    cut = in_formats(structure, whole(structure), MIXED)
    assert torch.equal(structure.backbone.model(tokens).logits, before)
    assert not torch.equal(cut.structure.backbone.enter(tokens).hidden, before)
    embedding: Any = cut.structure.backbone.model.get_input_embeddings().weight
    matrix = cut.quantized_ends["model.embed_tokens.weight"]
    assert torch.equal(embedding, matrix.dequantized())


def test_matrices_that_came_quantised_are_copied_bit_by_bit(tmp_path: Path) -> None:
    structure = dense("llama")
    path = tmp_path / "source.gguf"
    blocks = blocks_of(structure, structure.backbone.layers)
    write_file(path, GgufModel(structure=structure, blocks=blocks), "Q8_0")
    held = lasting(structure.backbone.model)
    source = GgufSource(path, {name: tuple(weight.shape) for name, weight in held.items()})
    matrices = SourceMatrices(source, torch.float32)
    cut = in_formats(structure, whole(structure), {"attention": "Q8_0", "mlp": "Q8_0"})
    # what stands in the model is what the file stands for, as it is unpacked
    copied = tuple(
        {
            name: matrices.matrix(
                f"model.layers.{i}.{name}", each.dequantized().bfloat16().float()
            )
            for name, each in of_layer.items()
        }
        for i, of_layer in enumerate(cut.quantized)
    )
    written(replace(cut, quantized=copied), tmp_path / "m.gguf")
    came = {each.name: each for each in GGUFReader(path).tensors}
    again = [each for each in GGUFReader(tmp_path / "m.gguf").tensors if "_q." in each.name]
    assert [each.tensor_type.name for each in again] == ["Q8_0"] * len(cut.layers)
    for tensor in GGUFReader(tmp_path / "m.gguf").tensors:
        if tensor.tensor_type.name == "Q8_0":
            np.testing.assert_array_equal(tensor.data, came[tensor.name].data)
