"""Codecs agree with llama.cpp's own code and with the layout of compressed-tensors."""

import ctypes
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

from search_spaces.errors import MissingExtraError
from search_spaces.pruned_weights.codecs import codec_of, ggml_library
from search_spaces.pruned_weights.codecs.bit_planes import LAYOUTS
from search_spaces.pruned_weights.codecs.integer_groups import packed_and_scales
from search_spaces.space.number_format import FORMATS, NumberFormat

OF_GGUF = [each for each in FORMATS.values() if each.name in GGMLQuantizationType.__members__]
BOTH_ENCODE = ("BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")


def weights(rows: int = 6, columns: int = 512) -> torch.Tensor:
    return 0.05 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("number_format", OF_GGUF, ids=str)
def test_sizes_are_those_of_the_package(number_format: NumberFormat) -> None:
    sizes = GGML_QUANT_SIZES[GGMLQuantizationType[number_format.name]]
    assert sizes == (number_format.block, number_format.block_bytes)


@pytest.mark.parametrize("name", BOTH_ENCODE)
def test_the_package_and_the_library_encode_alike(name: str) -> None:
    weight, kind, number_format = weights(), GGMLQuantizationType[name], FORMATS[name]
    row_bytes = number_format.bytes_of(1, 512)
    by_library = ggml_library.quantized_rows(weight, kind, row_bytes, None)
    assert np.array_equal(by_library.numpy(), quants.quantize(weight.numpy(), kind))
    assert torch.equal(codec_of(number_format).encode(weight), by_library)


def test_rows_are_quantised_one_by_one() -> None:
    weight, codec = weights(rows=600), codec_of(FORMATS["Q4_K"])  # more than a thread takes
    whole = codec.encode(weight, torch.linspace(0.5, 2.0, 512))
    assert torch.equal(whole[:7], codec.encode(weight[:7], torch.linspace(0.5, 2.0, 512)))
    assert torch.equal(whole[-9:], codec.encode(weight[-9:], torch.linspace(0.5, 2.0, 512)))


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_integer_is_stored_where_it_is_read(name: str) -> None:
    codec = codec_of(FORMATS[name])
    data = codec.encode(weights())
    drawn = torch.randint(
        0, codec.highest + 1, (6, 512), generator=torch.Generator().manual_seed(1)
    )
    zeros = torch.zeros_like(drawn)
    lowest, top = (
        codec.decode(codec.with_integers(data, each)) for each in (zeros, zeros + codec.highest)
    )
    found = codec.decode(codec.with_integers(data, drawn))
    step = (top - lowest) / codec.highest
    torch.testing.assert_close(found, lowest + drawn * step, rtol=1e-5, atol=1e-6)
    assert len(set(step.flatten().tolist())) > 6  # scales are those of the weights


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_zeros_are_kept_where_the_format_says_so(name: str) -> None:
    weight, codec = weights() + 0.02, codec_of(FORMATS[name])  # not even about zero
    weight[:, ::2] = 0.0
    found = codec.decode(codec.encode(weight))[:, ::2]
    assert bool((found == 0).all()) == FORMATS[name].keeps_zeros


@pytest.mark.parametrize(("name", "bits"), [("int4", 4), ("int8", 8)])
def test_integers_are_packed_as_by_compressed_tensors(name: str, bits: int) -> None:
    number_format, weight = FORMATS[name], weights()
    codec = codec_of(number_format)
    data = codec.encode(weight)
    packed, scales = packed_and_scales(data, number_format)
    assert packed.shape == (6, 512 * bits // 32)
    assert scales.shape == (6, 4)
    assert scales.dtype == torch.bfloat16
    most = 2 ** (bits - 1) - 1
    groups = weight.view(6, 4, 128)
    torch.testing.assert_close(
        scales.float(), groups.abs().amax(dim=2) / most, rtol=2**-8, atol=0.0
    )
    # column 0 lies in the lowest bits of a word, its middle stored as 2 ** (bits - 1)
    words = packed.numpy().view(np.uint32).astype(np.int64)
    unpacked = np.stack(
        [words >> shift & (2**bits - 1) for shift in range(0, 32, bits)], axis=-1
    ).reshape(6, 4, 128)
    numbers = (unpacked - 2 ** (bits - 1)) * scales.float().numpy()[:, :, None]
    assert np.array_equal(numbers.reshape(6, 512), codec.decode(data).numpy())
    gap = np.abs(numbers - groups.numpy())
    assert (gap <= 0.5001 * scales.float().numpy()[:, :, None] + 1e-3 * groups.abs().numpy()).all()


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    ggml_library._quantizer.cache_clear()
    monkeypatch.setattr(ggml_library, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"`xllamacpp`.*compression-planner\[gguf\]"):
        codec_of(FORMATS["Q4_K"]).encode(weights())
    assert codec_of(FORMATS["Q4_0"]).encode(weights()).shape == (6, 288)  # by the package


def test_a_build_that_hides_the_quantiser_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = ModuleSpec("xllamacpp", None)
    spec.submodule_search_locations = [str(tmp_path)]
    (tmp_path / "xllamacpp.so").touch()
    ggml_library._quantizer.cache_clear()
    monkeypatch.setattr(ggml_library, "find_spec", lambda _: spec)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    with pytest.raises(MissingExtraError, match="xllamacpp"):
        codec_of(FORMATS["Q2_K"]).encode(weights())
    ggml_library._quantizer.cache_clear()
