"""Packing against what goes in, and bytes against what comes out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from search_spaces.pruned_weights.bitmask import mask_bytes, pack, unpack

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def same_bits(one: Tensor, other: Tensor) -> bool:
    integers = INTEGERS[one.element_size()]
    return one.dtype == other.dtype and torch.equal(one.view(integers), other.view(integers))


@given(
    rows=st.integers(0, 5),
    columns=st.integers(1, 35),
    density=st.floats(0, 1),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_a_matrix_comes_back_bit_for_bit(
    rows: int, columns: int, density: float, dtype: torch.dtype, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=rng).to(dtype)
    weight[torch.rand(rows, columns, generator=rng) > density] = 0.0
    bits, values = pack(weight)
    assert bits.shape == (rows, -(-columns // 8))
    assert bits.dtype == torch.uint8
    assert values.dtype == dtype
    assert same_bits(unpack(bits, values, columns), weight)
    assert bits.nbytes == mask_bytes(rows, columns)
    assert len(values) == int((weight != 0).sum())


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_bit_pattern_but_a_negative_zero_comes_back(dtype: torch.dtype) -> None:
    width = torch.empty(0, dtype=dtype).element_size()
    raw = np.random.default_rng(0).integers(0, 256, (64, 40 * width), dtype=np.uint8)
    weight = torch.from_numpy(raw).view(dtype)  # infinities and not-a-numbers among them
    weight[:, 3], weight[:, 5] = torch.nan, -torch.inf
    weight[weight == 0] = 0.0
    assert same_bits(unpack(*pack(weight), weight.shape[1]), weight)


def test_a_negative_zero_becomes_a_zero() -> None:
    bits, values = pack(torch.tensor([[-0.0, 1.0]]))
    unpacked = unpack(bits, values, 2)
    assert unpacked.tolist() == [[0.0, 1.0]]
    assert not bool(torch.signbit(unpacked[0, 0]))


def test_the_layout_by_hand() -> None:
    weight = torch.zeros(2, 10)
    weight[0, 0], weight[0, 3], weight[0, 9], weight[1, 7] = 1.0, 2.0, 3.0, 4.0
    bits, values = pack(weight)
    assert bits.tolist() == [[0b00001001, 0b10], [0b10000000, 0]]
    assert values.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert mask_bytes(2, 10) == 4


def test_a_zero_among_the_kept_costs_nothing() -> None:
    weight = torch.tensor([[0.0, 5.0, 0.0, 0.0]])  # 2:4 that kept a zero
    bits, values = pack(weight)
    assert values.tolist() == [5.0]
    assert torch.equal(unpack(bits, values, 4), weight)


def test_a_matrix_that_is_not_contiguous_is_packed_by_rows() -> None:
    weight = torch.randn(12, 7).relu()
    assert torch.equal(unpack(*pack(weight.T), 12), weight.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_packing_alters_nothing_it_was_given(dtype: torch.dtype) -> None:
    weight = torch.randn(4, 9).relu().to(dtype)
    before = weight.clone()
    bits, values = pack(weight)
    values.zero_()
    assert same_bits(weight, before)
    unpack(bits, values, 9).fill_(1.0)
    assert not values.any()


def test_values_that_do_not_match_the_bits_are_refused() -> None:
    bits, values = pack(torch.ones(2, 3))
    with pytest.raises(ValueError, match="a value is needed for each of 6 bits, got 5"):
        unpack(bits, values[:5], 3)
