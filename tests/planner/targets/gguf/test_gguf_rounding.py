"""A file of fewer bits is its float32 form, rounded; anything else is named."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from gguf import (
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFReader,
    GGUFWriter,
    dequantize,
    quantize,
)

from planner.targets.gguf import gguf_runtime
from planner.targets.gguf.gguf_rounding import check_rounded
from planner.targets.gguf.gguf_types import WRITTEN_HERE, GgufType, file_type_of
from search_spaces.errors import VerificationError

HIDDEN, WORDS = 256, 32
_MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
QUANTISED = [kind for kind in get_args(GgufType) if kind not in WRITTEN_HERE]


def usual_numbers() -> dict[str, np.ndarray]:
    """Matrices of a layer with numbers as usual, with outliers, with zeros, far from zero …"""
    rng = np.random.default_rng(0)
    shape = (HIDDEN, HIDDEN)
    usual = rng.normal(size=shape) * 0.02
    made = [
        usual,
        rng.standard_t(2, size=shape) * 0.02,
        usual * (rng.random(shape) < 0.05),
        usual + 0.5,
        rng.uniform(-1, 1, size=shape),
        np.sort(usual, axis=1),
        usual * 10.0 ** rng.uniform(-7, 0, size=(HIDDEN, 1)),
    ]
    matrices = {f"blk.0.{name}.weight": rows for name, rows in zip(_MATRICES, made, strict=True)}
    vectors = ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight")
    rest = {"token_embd.weight": rng.normal(size=(WORDS, HIDDEN))}
    rest |= {name: rng.normal(size=HIDDEN) for name in vectors}
    return {name: rows.astype(np.float32) for name, rows in (matrices | rest).items()}


def write(
    path: Path,
    kind: str,
    *,
    without: str = "",
    context: int = 32,
    numbers: dict[str, np.ndarray] | None = None,
) -> Path:
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("none")
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(len(kind))  # which says nothing of the numbers
    writer.add_vocab_size(WORDS)
    writer.add_context_length(context)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, rows in (numbers or usual_numbers()).items():
        if name != without:
            number = GGMLQuantizationType[kind if rows.ndim > 1 else "F32"]
            writer.add_tensor(name, quantize(rows, number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("exact") / "exact.gguf", "F32")


def zero(path: Path, name: str, row: int) -> str:
    """Set a row of a tensor to zero, and return the tensor's type."""
    reader = GGUFReader(path, "r+")
    (tensor,) = [each for each in reader.tensors if each.name == name]
    tensor.data[row] = 0
    reader.data.flush()
    return tensor.tensor_type.name


def check_sound_and_spoiled(path: Path, exact: Path, *, source_rounding: bool) -> None:
    check_rounded(path, exact, source_rounding=source_rounding)
    name = "blk.0.attn_k.weight"
    kind = zero(path, name, 200)
    with pytest.raises(VerificationError, match=f"`{name}` in {kind} is off by"):
        check_rounded(path, exact, source_rounding=source_rounding)


@pytest.mark.parametrize("kind", WRITTEN_HERE)
def test_one_row_of_zeros_is_found_in_what_is_written_here(
    kind: str, exact: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "m.gguf", kind)
    check_sound_and_spoiled(path, exact, source_rounding=False)


@pytest.mark.parametrize("kind", QUANTISED)
def test_one_row_of_zeros_is_found_in_what_llama_cpp_writes(
    kind: GgufType, exact: Path, tmp_path: Path
) -> None:
    plain, path = write(tmp_path / "plain.gguf", "BF16"), tmp_path / "m.gguf"
    gguf_runtime.quantize(plain, path, int(file_type_of(kind)), threads=1)
    check_sound_and_spoiled(path, exact, source_rounding=True)


def test_a_vector_must_be_the_same(exact: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F16")
    reader = GGUFReader(path, "r+")
    (norm,) = [each for each in reader.tensors if each.name == "output_norm.weight"]
    norm.data[3] *= 1 + 1e-6
    reader.data.flush()
    with pytest.raises(VerificationError, match=r"`output_norm\.weight` in F32 is off by"):
        check_rounded(path, exact, source_rounding=True)


def test_what_is_no_number_is_found(exact: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf", "F16")
    reader = GGUFReader(path, "r+")
    (rows,) = [each for each in reader.tensors if each.name == "token_embd.weight"]
    rows.data[-1, -1] = np.nan
    reader.data.flush()
    with pytest.raises(VerificationError, match=r"`token_embd\.weight` in F16 is off by nan"):
        check_rounded(path, exact, source_rounding=False)


def test_a_file_says_the_same_and_has_the_same_tensors(exact: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "context.gguf", "F16", context=64)
    with pytest.raises(VerificationError, match=r"`llama\.context_length` says something else"):
        check_rounded(other, exact, source_rounding=False)
    fewer = write(tmp_path / "fewer.gguf", "F16", without="blk.0.ffn_up.weight")
    with pytest.raises(VerificationError, match=r"`blk\.0\.ffn_up\.weight` is in one of them"):
        check_rounded(fewer, exact, source_rounding=False)


def test_blocks_that_a_plan_chose_hold_the_very_numbers(exact: Path, tmp_path: Path) -> None:
    stored = write(tmp_path / "stored.gguf", "Q8_0")
    with pytest.raises(VerificationError, match=r"in Q8_0 is off by \S+ where 0 is"):
        check_rounded(stored, exact, as_chosen=True)
    tensors = GGUFReader(stored).tensors
    found = {each.name: dequantize(each.data, each.tensor_type) for each in tensors}
    dequantized = write(tmp_path / "exact.gguf", "F32", numbers=found)
    check_rounded(stored, dequantized, as_chosen=True)
    # what is in no blocks is rounded
    check_rounded(write(tmp_path / "half.gguf", "BF16"), exact, as_chosen=True)
