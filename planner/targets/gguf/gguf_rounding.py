"""Whether a GGUF file holds the numbers of another one, rounded to fewer bits and nothing else.

How far a number may be off is stated by the layouts of ``ggml-quants.c``: blocks of small
integers with a scale in float16, which is itself an integer times a scale where blocks are 256.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, ReaderTensor, dequantize
from numpy.typing import NDArray

from search_spaces.errors import VerificationError, quoted
from search_spaces.space.number_format import file_format

_HALF, _BRAIN = 2**-11, 2**-8
"""Relative roundings to float16 and to bfloat16."""
_SMALLEST = 2**-25
"""Half of the smallest float16: by how much a scale may be off, however small it is."""
_SEARCHED = 1.5
"""Steps by which a number may be off where the scale is searched for by least squares: half of
one for rounding, and one at an end of the block that a scale cuts off to round the rest better."""
_CHUNK = 2**22
"""Numbers that are compared at once."""
_SELF_SAID = ("general.file_type", "GGUF.")
"""What each file says of itself."""


@dataclass(frozen=True, kw_only=True)
class _Rounding:
    """How far numbers of a type may be off."""

    relative: float
    """To the largest of the numbers that share a scale."""
    top: int = 0
    """The largest integer that a scale in float16 is multiplied with; 0: there is no scale."""


# With a sign, n steps lead from zero to the largest number, and n - 1 to its opposite. From the
# least to the largest there are 2^bits - 1, over twice the largest number at most. Scales of
# b bits in a block of 256 round by half of 1 / 2^b of its largest number.
_ROUNDINGS: Mapping[str, _Rounding] = {
    "F32": _Rounding(relative=0),
    "F16": _Rounding(relative=_HALF, top=1),
    "BF16": _Rounding(relative=_BRAIN),
    "Q8_0": _Rounding(relative=0.5 / 127 + _HALF, top=127),
    "Q5_0": _Rounding(relative=1 / 16 + _HALF, top=16),
    "Q4_0": _Rounding(relative=1 / 8 + _HALF, top=8),
    "Q5_1": _Rounding(relative=0.5 * 2 / 31 + 3 * _HALF, top=31 + 1),
    "Q4_1": _Rounding(relative=0.5 * 2 / 15 + 3 * _HALF, top=15 + 1),
    "Q6_K": _Rounding(relative=_SEARCHED / 32 + 1 / 256, top=128 * 32),
    "Q5_K": _Rounding(relative=_SEARCHED * 2 / 31 + 3 / 126, top=63 * (31 + 1)),
    "Q4_K": _Rounding(relative=_SEARCHED * 2 / 15 + 3 / 126, top=63 * (15 + 1)),
    "Q3_K": _Rounding(relative=_SEARCHED / 4 + 1 / 64, top=32 * 4),
    # of three steps all together: one, or numbers might be anything
    "Q2_K": _Rounding(relative=2 / 3 + 3 / 30, top=15 * (3 + 1)),
    # steps of 10 to 25 of 127, wide where numbers are large
    "IQ4_NL": _Rounding(relative=_SEARCHED * 25 / 127 + _HALF, top=127),
    "IQ4_XS": _Rounding(relative=_SEARCHED * 25 / 127 + 1 / 64, top=32 * 127),
}


def check_rounded(
    path: Path, exact: Path, *, source_rounding: bool = False, as_chosen: bool = False
) -> None:
    """Compare a file with one of the same model in float32.

    Args:
        path: The file.
        exact: The other one.
        source_rounding: Whether the file's numbers were rounded to 16 bits before, as those of a
            file that llama.cpp's quantiser reads may be.
        as_chosen: Whether blocks of integers are as a plan chose them, of which the other file
            holds the very numbers.

    Raises:
        VerificationError: If they say or hold something else; what differs first is named.
    """
    reader, other = GGUFReader(path), GGUFReader(exact)
    said, expected = _said(reader), _said(other)
    odd = [name for name in sorted(said | expected) if said.get(name) != expected.get(name)]
    if odd:
        raise _fault(f"{quoted(odd[0])} says something else")
    tensors = {each.name: each for each in reader.tensors}
    twins = {each.name: each for each in other.tensors}
    if unpaired := sorted(set(tensors) ^ set(twins)):
        raise _fault(f"{quoted(unpaired[0])} is in one of them only")
    for name, twin in twins.items():
        kind = tensors[name].tensor_type.name
        is_chosen = as_chosen and kind not in {"F16", "BF16"}
        rounding = _ROUNDINGS["F32" if is_chosen else kind]
        if source_rounding and rounding.relative:
            rounding = replace(rounding, relative=rounding.relative + _BRAIN)
        if excess := _excess(tensors[name], twin, rounding):
            raise _fault(f"{quoted(name)} in {kind} {excess}")


def _fault(what: str) -> VerificationError:
    return VerificationError(
        "a file of fewer bits must hold what its float32 form does, rounded and nothing else, and "
        f"{what}; please report this model"
    )


def _said(reader: GGUFReader) -> dict[str, Any]:
    return {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith(_SELF_SAID)
    }


def _excess(tensor: ReaderTensor, twin: ReaderTensor, rounding: _Rounding) -> str:
    """Return in words by how much more than it may a tensor differs; empty: it does not.

    Args:
        tensor: Of any type.
        twin: The same in float32.
        rounding: What it may.
    """
    if list(tensor.shape) != list(twin.shape):
        return "has another shape"
    block = file_format(tensor.tensor_type.name).block
    for found, expected in _rows(tensor, twin):
        blocks = expected.reshape(-1, block)  # (blocks, numbers)
        gaps = np.abs(found.reshape(blocks.shape) - blocks).max(axis=1)
        largest = np.abs(blocks).max(axis=1)
        # float32 computes the bound itself to its last digits
        allowed = rounding.relative * (1 + 1e-5) * largest + rounding.top * _SMALLEST
        wrong = ~(gaps <= allowed)  # and what is no number
        if wrong.any():
            first = int(wrong.argmax())
            return f"is off by {gaps[first]:.2g} where {allowed[first]:.2g} is allowed"
    return ""


def _rows(
    tensor: ReaderTensor, twin: ReaderTensor
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield some rows of both at a time, in float32."""
    stored = tensor.data.reshape(-1, tensor.data.shape[-1])
    exact = twin.data.reshape(-1, twin.data.shape[-1])
    count = max(1, _CHUNK // exact.shape[-1])
    for start in range(0, len(exact), count):
        rows = slice(start, start + count)
        yield _numbers(stored[rows], tensor.tensor_type), _numbers(exact[rows], twin.tensor_type)


def _numbers(rows: NDArray[Any], kind: GGMLQuantizationType) -> NDArray[np.float32]:
    return np.asarray(dequantize(np.ascontiguousarray(rows), kind), dtype=np.float32)
