"""What every quantiser must keep to; a new one adds its name and is held."""

from typing import get_args

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, dequantize
from torch import Tensor

from search_spaces.errors import DataError
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.quantizers import QuantizerName, make_quantizer
from search_spaces.space.number_format import FORMATS, SOURCE, NumberFormat
from search_spaces.statistics import MatrixStatistics

NAMES: tuple[QuantizerName, ...] = get_args(QuantizerName)
ALL = tuple(each for each in FORMATS.values() if each != SOURCE)
IN_INTEGERS = tuple(each for each in ALL if codec_of(each).highest)
COARSE = tuple(each for each in IN_INTEGERS if each.weight_bits < 6)
ROWS, COLUMNS, TOKENS = 12, 512, 2048


def problem() -> tuple[Tensor, Tensor]:
    """Return a matrix ``(rows, columns)``, and inputs of uneven size that go together."""
    rng = torch.Generator().manual_seed(0)
    causes = torch.randn(TOKENS, 64, generator=rng) @ torch.randn(64, COLUMNS, generator=rng)
    inputs = causes / 8 + 0.3 * torch.randn(TOKENS, COLUMNS, generator=rng)
    sizes = torch.rand(COLUMNS, generator=rng).exp().square()
    return 0.05 * torch.randn(ROWS, COLUMNS, generator=rng), inputs * sizes


def measured(inputs: Tensor) -> MatrixStatistics:
    gram = inputs.T @ inputs / len(inputs)
    values = {"gram": gram, "input_second_moment": gram.diagonal()}
    return MatrixStatistics(tokens=len(inputs), values=values)  # type: ignore[arg-type]


def error(weight: Tensor, matrix: QuantizedMatrix, inputs: Tensor) -> float:
    return float(((weight - matrix.dequantized()) @ inputs.T).square().mean())


def quantized(name: QuantizerName, number_format: NumberFormat) -> QuantizedMatrix:
    weight, inputs = problem()
    return make_quantizer(name).quantize(weight, number_format, measured(inputs))


@pytest.mark.parametrize("number_format", ALL, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_bytes_are_those_of_the_format_and_come_back(
    name: QuantizerName, number_format: NumberFormat
) -> None:
    matrix = quantized(name, number_format)
    assert matrix.format == number_format
    assert matrix.data.dtype == torch.uint8
    assert matrix.shape == (ROWS, COLUMNS)
    assert matrix.data.numel() + number_format.matrix_bytes == number_format.bytes_of(
        ROWS, COLUMNS
    )
    numbers, codec = matrix.dequantized(), codec_of(number_format)
    assert numbers.dtype == torch.float32
    assert bool(numbers.isfinite().all())
    if number_format.name in GGMLQuantizationType.__members__:
        kind = GGMLQuantizationType[number_format.name]
        assert np.array_equal(dequantize(matrix.data.numpy(), kind), numbers.numpy())
    if codec.highest:
        assert torch.equal(codec.with_integers(matrix.data, integers_of(matrix)), matrix.data)


def integers_of(matrix: QuantizedMatrix) -> Tensor:
    """Read the integers off what they and the lowest and the highest ones stand for."""
    codec = codec_of(matrix.format)
    zeros = torch.zeros(matrix.shape, dtype=torch.long)
    lowest, top = (
        codec.decode(codec.with_integers(matrix.data, each))
        for each in (zeros, zeros + codec.highest)
    )
    step = (top - lowest) / codec.highest
    places = ((matrix.dequantized() - lowest) / step).round()
    return places.where(step != 0, (codec.highest + 1) // 2).long()


@pytest.mark.parametrize("number_format", COARSE, ids=str)
@pytest.mark.parametrize("name", [name for name in NAMES if name != "rtn"])
def test_what_is_measured_beats_the_nearest_numbers(
    name: QuantizerName, number_format: NumberFormat
) -> None:
    weight, inputs = problem()
    other = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(1)) * 0.1 + inputs
    found, nearest = (quantized(each, number_format) for each in (name, "rtn"))
    assert error(weight, found, inputs) < 0.97 * error(weight, nearest, inputs)
    assert error(weight, found, other) < error(weight, nearest, other)


@pytest.mark.parametrize("number_format", COARSE, ids=str)
def test_gptq_meets_a_sum_whose_best_answer_is_known(number_format: NumberFormat) -> None:
    # all inputs are one: outputs are sums of rows, which the last columns can always correct
    weight = 0.05 * torch.randn(ROWS, 256, generator=torch.Generator().manual_seed(0))
    inputs = torch.ones(TOKENS, 256)
    matrix = make_quantizer("gptq").quantize(weight, number_format, measured(inputs))
    missed = (weight - matrix.dequantized()).sum(dim=1).abs()
    nearest = make_quantizer("rtn").quantize(weight, number_format, measured(inputs))
    # the best answer is off by half of the finest step in the row, at most
    assert bool((missed <= 0.5 * _finest_step(matrix) + 1e-5).float().mean() >= 0.9)
    assert float(missed.mean()) < 0.2 * float(
        (weight - nearest.dequantized()).sum(dim=1).abs().mean()
    )


def _finest_step(matrix: QuantizedMatrix) -> Tensor:
    """Return the largest of the steps of the last block of each row ``(rows,)``."""
    codec = codec_of(matrix.format)
    zeros = torch.zeros(matrix.shape, dtype=torch.long)
    lowest, top = (
        codec.decode(codec.with_integers(matrix.data, each))
        for each in (zeros, zeros + codec.highest)
    )
    return ((top - lowest) / codec.highest).abs()[:, -1]


@pytest.mark.parametrize("name", ["imatrix", "gptq"])
def test_an_outlier_that_is_never_read_takes_no_scale_from_the_others(name: QuantizerName) -> None:
    steps = torch.randint(-6, 7, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(0))
    weight = 2.0**-6 * steps.float()
    weight[:, ::32] = 2.0**-6 * 20.0
    inputs = torch.randn(TOKENS, COLUMNS, generator=torch.Generator().manual_seed(1))
    inputs[:, ::32] = 0.0
    found, nearest = (
        make_quantizer(each).quantize(weight, FORMATS["int4"], measured(inputs))
        for each in (name, "rtn")
    )
    # the best answer is exact, and cuts the outliers off
    assert error(weight, found, inputs) < 0.02 * error(weight, nearest, inputs)


@pytest.mark.parametrize("number_format", ["int4", "Q4_0", "Q5_0"])
@pytest.mark.parametrize("name", ["imatrix", "gptq"])
def test_the_only_input_of_a_block_that_is_read_is_exact(
    name: QuantizerName, number_format: str
) -> None:
    weight, inputs = problem()
    few, q = torch.zeros_like(inputs), FORMATS[number_format]
    few[:, 5 :: q.block] = inputs[:, 5 :: q.block]
    # llama.cpp tries scales near the usual one: what is read must not be next to zero by them
    weight[:, :: q.block] = 0.2
    weight[:, 5 :: q.block] = 0.1 + 0.5 * weight[:, 5 :: q.block].abs()
    found, nearest = (
        make_quantizer(each).quantize(weight, q, measured(few)) for each in (name, "rtn")
    )
    assert error(weight, found, few) < 0.05 * error(weight, nearest, few)


def test_gptq_does_as_well_as_a_literal_reference() -> None:
    weight, inputs = problem()
    weight = weight[:4, :256]
    statistics = measured(inputs[:, :256])
    for number_format in (FORMATS["Q4_0"], FORMATS["Q3_K"], FORMATS["int4"]):
        found = make_quantizer("gptq").quantize(weight, number_format, statistics)
        literal = _literal(weight, number_format, statistics["gram"])
        errors = [
            float(((weight - each) @ inputs[:, :256].T).square().mean())
            for each in (found.dequantized(), literal)
        ]
        assert errors[0] == pytest.approx(errors[1], rel=0.02)


def _literal(weight: Tensor, number_format: NumberFormat, gram: Tensor) -> Tensor:
    """Quantise as Optimal Brain Quantization does in a fixed order, in float64, row by row.

    After each weight its column is struck out of the inverse by a step of Gaussian elimination.
    """
    codec, block = codec_of(number_format), number_format.block
    damped = gram.double() + 0.01 * gram.diagonal().double().mean() * torch.eye(len(gram))
    result, left = torch.zeros_like(weight, dtype=torch.float64), weight.double().clone()
    inverse = torch.linalg.inv(damped)
    for column in range(weight.shape[1]):
        if column % block == 0:
            part = slice(column, column + block)
            energy = gram.diagonal()
            data = codec.encode(left[:, part].float(), (energy / energy.mean())[part])
            zeros = torch.zeros(len(weight), block, dtype=torch.long)
            lowest = codec.decode(codec.with_integers(data, zeros)).double()
            top = codec.decode(codec.with_integers(data, zeros + codec.highest)).double()
            step = (top - lowest) / codec.highest
        place = column % block
        for row in range(len(weight)):
            steps = (left[row, column] - lowest[row, place]) / step[row, place]
            whole = min(max(round(float(steps)), 0), codec.highest)
            result[row, column] = lowest[row, place] + whole * step[row, place]
            missed = (left[row, column] - result[row, column]) / inverse[column, column]
            left[row, column:] -= missed * inverse[column, column:]
        inverse = (
            inverse - torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
        )
    return result.float()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number_format", [FORMATS["Q8_0"], FORMATS["Q4_0"], FORMATS["int4"]])
def test_zeros_stay_zeros(name: QuantizerName, number_format: NumberFormat) -> None:
    weight, inputs = problem()
    zeros = torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) < 0.5
    sparse = weight.masked_fill(zeros, 0.0)
    matrix = make_quantizer(name).quantize(sparse, number_format, measured(inputs), weight)
    assert not bool(matrix.dequantized()[zeros].any())
    if name == "gptq":  # one pass for zeros and rounding beats one after the other
        apart = make_quantizer(name).quantize(sparse, number_format, measured(inputs), sparse)
        assert error(weight, matrix, inputs) < 0.8 * error(weight, apart, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_matrix_is_quantised_alike_each_time_and_stays(name: QuantizerName) -> None:
    weight, inputs = problem()
    before, quantizer, q4 = weight.clone(), make_quantizer(name), FORMATS["Q4_K"]
    statistics = measured(inputs)
    first = quantizer.quantize(weight, q4, statistics)
    quantizer.quantize(weight, FORMATS["Q3_K"], measured(2 * inputs))
    again = quantizer.quantize(weight, q4, statistics)
    needed = {name: statistics[name] for name in quantizer.statistics}
    declared = MatrixStatistics(tokens=TOKENS, values=needed)
    afresh = make_quantizer(name).quantize(weight, q4, declared)
    assert torch.equal(weight, before)
    assert torch.equal(first.data, again.data)
    assert torch.equal(first.data, afresh.data)


@pytest.mark.parametrize("number_format", ALL, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_breaks_where_nothing_is(name: QuantizerName, number_format: NumberFormat) -> None:
    weight = torch.zeros(3, 256)
    weight[1, 7] = 1.0
    matrix = make_quantizer(name).quantize(
        weight, number_format, measured(torch.zeros(TOKENS, 256))
    )
    assert not bool(matrix.dequantized()[[0, 2]].any())
    assert float(matrix.dequantized()[1, 7]) == pytest.approx(1.0, rel=0.13)


def test_too_few_tokens_are_refused() -> None:
    weight, inputs = problem()
    with pytest.raises(DataError, match="GPTQ of 512 inputs needs at least 128 tokens"):
        make_quantizer("gptq").quantize(weight, FORMATS["Q8_0"], measured(inputs[:100]))
