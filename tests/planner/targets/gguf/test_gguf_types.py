"""Types of numbers by their names, and what rows they need."""

from typing import get_args

import pytest

from planner.targets.gguf.gguf_types import GgufType, as_type, check_rows, file_type_of, row_block
from search_spaces.errors import SettingsError, TargetError


def test_each_type_has_a_number_in_llama_cpp() -> None:
    # of `enum llama_ftype` in llama.h
    numbers = {name: int(file_type_of(name)) for name in get_args(GgufType)}
    assert (numbers["F32"], numbers["F16"], numbers["Q8_0"], numbers["Q4_K_M"]) == (0, 1, 7, 15)
    assert len(set(numbers.values())) == len(numbers)


def test_an_unknown_type_is_refused() -> None:
    assert as_type("Q4_K_M") == "Q4_K_M"
    with pytest.raises(SettingsError, match=r"must be one of F32, F16, .*, got `q4`"):
        as_type("q4")


def test_blocks_of_256_have_a_fallback_and_those_of_32_have_none() -> None:
    assert [row_block(name) for name in ("BF16", "Q8_0", "Q4_0", "Q6_K", "IQ4_XS")] == [
        1,
        32,
        32,
        256,
        256,
    ]
    check_rows("Q4_K_M", [48, 64])
    check_rows("Q4_0", [64, 96])
    with pytest.raises(TargetError, match="all matrices in Q4_0, and 48 is not divided"):
        check_rows("Q4_0", [64, 48])
