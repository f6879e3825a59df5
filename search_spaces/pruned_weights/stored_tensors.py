"""The tensors that stand for pruned weights in a file: as they are, or in fewer bytes."""

from collections.abc import Callable, Mapping

from torch import Tensor

from search_spaces.pruned_weights.bitmask import pack, unpack
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import FORMATS

_ALIGNMENT = 64
"""Bytes: that of torch's own tensors."""


def is_packed(options: BlockOptions) -> bool:
    """Return whether weights are stored as what stands for them, and so cannot be mapped."""
    return options.rewrites


def aligned(content: bytes) -> tuple[bytes, memoryview]:
    """Return the header of a safetensors file, filled up with blanks, and the data behind it.

    Mapped tensors then lie as torch lays its own: kernels add up others in another order, so that
    a score would depend on the length of a file's header.
    """
    length = int.from_bytes(content[:8], "little")
    blanks = -(8 + length) % _ALIGNMENT
    header = (length + blanks).to_bytes(8, "little") + content[8 : 8 + length] + b" " * blanks
    return header, memoryview(content)[8 + length :]


def tensors_of(weights: PrunedWeights, options: BlockOptions) -> dict[str, Tensor]:
    """Name the tensors of a file.

    Of each weight it is one of: its bytes in a number format, under the name of that; a bit for
    each of its numbers, and those that are not zero; or the numbers.
    """
    tensors = {}
    for path, matrix in weights.items():
        weight = matrix.weight.cpu().contiguous()
        if matrix.quantized is not None:
            tensors[f"{path}.{matrix.quantized.format}"] = matrix.quantized.data
        elif not options.pattern.is_dense:
            rows = weight.flatten(0, -2)  # of a stack, those of all experts
            tensors[f"{path}.bits"], tensors[f"{path}.values"] = pack(rows)
        else:
            tensors[f"{path}.weight"] = weight
        if matrix.bias is not None:
            tensors[f"{path}.bias"] = matrix.bias.cpu().contiguous()
    return tensors


def weights_of(
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    as_matrices: Callable[[str, Tensor], Tensor],
) -> PrunedWeights:
    """Return the weights whose tensors `tensors_of` named.

    Args:
        tensors: By their names.
        shapes: Of all weights that there may be, by path.
        as_matrices: Turns the matrices of a path into its weight, as a `WeightBuilder` does.

    Raises:
        ValueError: If a weight is not of its shape.
    """
    weights = {}
    for path, shape in shapes.items():
        weight, quantized = tensors.get(f"{path}.weight"), _quantized(tensors, path)
        if f"{path}.bits" in tensors:
            rows = unpack(tensors[f"{path}.bits"], tensors[f"{path}.values"], shape[-1])
            weight = rows.reshape(*shape[:-1], -1)
        if quantized is not None:
            weight = as_matrices(path, quantized.dequantized())
        if weight is None:
            continue
        if weight.shape != shape:
            raise ValueError(f"{path} is {tuple(weight.shape)}, not {shape}")
        weights[path] = LinearWeights(weight, tensors.get(f"{path}.bias"), quantized)
    return weights


def _quantized(tensors: Mapping[str, Tensor], path: str) -> QuantizedMatrix | None:
    """Return the matrix whose bytes are among some tensors, if they are."""
    for name, number_format in FORMATS.items():
        if f"{path}.{name}" in tensors:
            return QuantizedMatrix(number_format, tensors[f"{path}.{name}"])
    return None
