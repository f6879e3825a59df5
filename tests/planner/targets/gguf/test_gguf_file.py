"""What a GGUF file says of its model, and how its numbers are stored."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader

from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import blocks_of
from planner.targets.gguf.gguf_runtime import served
from planner.targets.gguf.gguf_types import GgufType
from search_spaces.errors import OutputError, TargetError
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens, run_layers
from tests.models.factory import HEAD_DIM, VOCABULARY, twin
from tests.models.families import FAMILIES, dense
from tests.planner.targets.gguf.kinds import UNIFORM, VARIED, cut_to


def written(
    structure: ModelStructure, counts: list[int], path: Path, number_type: GgufType = "F32"
) -> GGUFReader:
    blocks = blocks_of(structure, cut_to(structure, counts))
    about = {"name": "small", "license": "mit"}
    write_file(path, GgufModel(structure=structure, blocks=blocks, about=about), number_type)
    return GGUFReader(path)


def said(reader: GGUFReader) -> dict[str, Any]:
    return {name: field.contents() for name, field in reader.fields.items()}


def test_what_differs_by_layer_is_said_of_each(tmp_path: Path) -> None:
    fields = said(written(dense("llama"), VARIED["all-of-it"], tmp_path / "m.gguf"))
    assert fields["general.architecture"] == "deci"
    assert fields["general.name"] == "small"
    assert fields["general.license"] == "mit"
    assert fields["deci.block_count"] == 5
    for name in ("attention.head_count", "attention.head_count_kv", "feed_forward_length"):
        assert len(fields[f"deci.{name}"]) == 5
    assert fields["deci.attention.key_length"] == HEAD_DIM
    assert fields["deci.attention.value_length"] == HEAD_DIM
    assert fields["deci.rope.dimension_count"] == HEAD_DIM
    assert fields["deci.rope.freq_base"] == 1e4
    assert fields["deci.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert fields["deci.vocab_size"] == VOCABULARY
    assert fields["deci.context_length"] == 64


def test_what_is_alike_is_said_once(tmp_path: Path) -> None:
    fields = said(written(dense("llama"), UNIFORM["narrow"], tmp_path / "m.gguf"))
    assert fields["llama.attention.head_count"] == 4
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.feed_forward_length"] == 16


def test_a_head_that_is_the_embedding_is_written_once(tmp_path: Path) -> None:
    for name, has_head in (("llama", True), ("qwen2", False)):
        reader = written(dense(name), UNIFORM["narrow"], tmp_path / f"{name}.gguf")
        assert ("output.weight" in {tensor.name for tensor in reader.tensors}) is has_head


def test_frequencies_of_llama_3_are_a_tensor(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 1e4,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    structure = FAMILIES["llama"].structure(rope_parameters=rope)
    reader = written(structure, UNIFORM["dense"], tmp_path / "m.gguf")
    (tensor,) = [each for each in reader.tensors if each.name == "rope_freqs.weight"]
    # wavelengths 2π · 10^i: shorter than 16 / 4 none, longer than 16 / 1 all but the first, which
    # lies between: smooth = (16 / 2π - 1) / 3, and 1 / ((1 - smooth) / 8 + smooth)
    smooth = (16 / (2 * np.pi) - 1) / 3
    between = 1 / ((1 - smooth) / 8 + smooth)
    np.testing.assert_allclose(np.array(tensor.data), [between, 8, 8, 8], rtol=1e-5)


@pytest.mark.parametrize(
    ("number_type", "allowed"),
    [("F16", 0.01), ("BF16", 0.1), ("Q8_0", 0.2)],
)
def test_matrices_have_the_type_and_vectors_are_float32(
    number_type: GgufType, allowed: float, tmp_path: Path
) -> None:
    structure, path = dense("llama"), tmp_path / "m.gguf"
    counts = VARIED["widths"]
    tensors = {each.name: each for each in written(structure, counts, path, number_type).tensors}
    assert tensors["blk.0.attn_q.weight"].tensor_type == GGMLQuantizationType[number_type]
    assert tensors["blk.0.attn_norm.weight"].tensor_type == GGMLQuantizationType.F32
    # rows of 9 are no blocks of 32
    odd = "F16" if number_type == "Q8_0" else number_type
    assert tensors["blk.5.ffn_down.weight"].tensor_type == GGMLQuantizationType[odd]
    tokens = random_tokens()
    expected = run_layers(structure, cut_to(structure, counts), tokens).numpy()
    with served(path, threads=1, cache_type="F32") as model:
        gap = np.abs(model.logits(tokens.numpy()) - expected).max() / expected.std()
    # llama.cpp rounds what such matrices are multiplied with too; more than float32 would
    assert 1e-4 < gap < allowed


def test_llama_cpp_quantises_to_any_other_type(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    reader = written(dense("llama"), VARIED["widths"], path, "Q4_K_M")
    kinds = {each.name: each.tensor_type.name for each in reader.tensors}
    assert kinds["blk.0.attn_q.weight"].startswith("Q5_0")  # for rows of 32
    assert kinds["blk.5.ffn_down.weight"] == "F16"  # for rows of 9
    assert [each.name for each in tmp_path.iterdir()] == ["m.gguf"]
    with pytest.raises(TargetError, match="32 must divide the rows of all matrices in Q4_0"):
        written(dense("llama"), VARIED["widths"], path, "Q4_0")


def test_numbers_that_float16_does_not_hold_are_refused(tmp_path: Path) -> None:
    structure = twin(dense("llama"))
    with torch.no_grad():
        structure.backbone.layers[1].get_submodule("mlp.up_proj").weight[0, 0] = 1e5  # type: ignore[operator]
    for number_type in ("BF16", "F32"):
        written(structure, UNIFORM["dense"], tmp_path / f"{number_type}.gguf", number_type)
    with pytest.raises(TargetError, match=r"`blk\.1\.ffn_up\.weight` are larger than 65504"):
        written(structure, UNIFORM["dense"], tmp_path / "F16.gguf", "F16")


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        written(dense("llama"), UNIFORM["dense"], tmp_path / "nowhere" / "m.gguf")
