"""The tensors that stand for pruned weights in a file: as they are, or a bitmask and values."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.pruned_weights.bitmask import pack, unpack
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions

_ALIGNMENT = 64
"""Bytes: that of torch's own tensors."""


def is_packed(options: BlockOptions) -> bool:
    """Return whether weights are stored as a bitmask and values, and so cannot be mapped."""
    return not options.pattern.is_dense


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
    """Name the tensors of a file."""
    tensors = {}
    for path, matrix in weights.items():
        weight = matrix.weight.cpu().contiguous()
        if is_packed(options):
            rows = weight.flatten(0, -2)  # of a stack, those of all experts
            tensors[f"{path}.bits"], tensors[f"{path}.values"] = pack(rows)
        else:
            tensors[f"{path}.weight"] = weight
        if matrix.bias is not None:
            tensors[f"{path}.bias"] = matrix.bias.cpu().contiguous()
    return tensors


def weights_of(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> PrunedWeights:
    """Return the weights whose tensors `tensors_of` named.

    Raises:
        ValueError: If a weight is not of its shape.
    """
    weights = {}
    for path, shape in shapes.items():
        weight = tensors.get(f"{path}.weight")
        if f"{path}.bits" in tensors:
            rows = unpack(tensors[f"{path}.bits"], tensors[f"{path}.values"], shape[-1])
            weight = rows.reshape(*shape[:-1], -1)
        if weight is None:
            continue
        if weight.shape != shape:
            raise ValueError(f"{path} is {tuple(weight.shape)}, not {shape}")
        weights[path] = LinearWeights(weight, tensors.get(f"{path}.bias"))
    return weights
