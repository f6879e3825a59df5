"""The tensors that stand for pruned weights in a file: as they are, or in fewer bytes."""

from collections.abc import Callable, Mapping

from torch import Tensor

from search_spaces.pruned_weights.bitmask import pack, unpack
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import STORED, file_format

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
    linear: Callable[[str, QuantizedMatrix, Tensor | None], LinearWeights],
) -> PrunedWeights:
    """Return the weights whose tensors `tensors_of` named.

    Args:
        tensors: By their names.
        shapes: Of all weights that there may be, by path.
        linear: Makes of a path, its bytes and its bias what these stand for, as a `WeightBuilder`
            does.

    Raises:
        ValueError: If a weight is not of its shape.
    """
    weights = {}
    for path, shape in shapes.items():
        bias, quantized = tensors.get(f"{path}.bias"), _quantized(tensors, path)
        if quantized is not None:
            weights[path] = linear(path, quantized, bias)
        elif f"{path}.bits" in tensors:
            rows = unpack(tensors[f"{path}.bits"], tensors[f"{path}.values"], shape[-1])
            weights[path] = LinearWeights(rows.reshape(*shape[:-1], -1), bias)
        elif f"{path}.weight" in tensors:
            weights[path] = LinearWeights(tensors[f"{path}.weight"], bias)
        if path in weights and weights[path].weight.shape != shape:
            raise ValueError(f"{path} is {tuple(weights[path].weight.shape)}, not {shape}")
    return weights


def _quantized(tensors: Mapping[str, Tensor], path: str) -> QuantizedMatrix | None:
    """Return the matrix whose bytes are among some tensors, if they are."""
    for name, tensor in tensors.items():
        prefix, _, kind = name.rpartition(".")
        number_format = file_format(kind)
        if prefix == path and number_format != STORED:
            return QuantizedMatrix(number_format, tensor)
    return None
