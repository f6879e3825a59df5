"""The matrices of a quantised GGUF file as they are in it, by their names in the model."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from gguf import MODEL_ARCH_NAMES, GGUFReader, ReaderTensor, TensorNameMap, get_tensor_name_map
from numpy.typing import NDArray

_PLAIN = frozenset({"F64", "F32", "F16", "BF16"})
_LAYER = re.compile(r"\.(\d+)\.")
_STACKS = {
    ".experts.gate_up_proj": ("ffn_gate_exps", "ffn_up_exps"),
    ".experts.down_proj": ("ffn_down_exps",),
}
"""Tensors of a block that a stack of a model holds, its rows one after the other."""


class GgufSource:
    """The file that a model was read from; it is opened when it is first asked.

    Args:
        path: Of the file.
        shapes: Of all weights of the model, by their names.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.path = path
        self._shapes = shapes

    @cached_property
    def types(self) -> Mapping[str, str]:
        """The type of each quantised matrix, by its name in the model."""
        return {name: parts[0].tensor_type.name for name, parts in self._parts.items()}

    def rows(self, name: str, member: int | None = None) -> NDArray[np.uint8]:
        """Return the bytes of a matrix, in the file's order, ``(rows, bytes a row)``.

        Args:
            name: One of those of `types`.
            member: Which matrix of a stack, the others of which are not read; None: it is none.
        """
        parts = (part.data for part in self._parts[name])
        return np.concatenate([p if member is None else p[member] for p in parts], axis=-2)

    @cached_property
    def _parts(self) -> Mapping[str, tuple[ReaderTensor, ...]]:
        """The tensors that make up each quantised matrix, their rows one after the other."""
        reader = GGUFReader(self.path)
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        architecture = str(reader.fields["general.architecture"].contents())
        blocks = int(reader.fields[f"{architecture}.block_count"].contents())
        arch = next(each for each, name in MODEL_ARCH_NAMES.items() if name == architecture)
        names = get_tensor_name_map(arch, blocks)
        found = {}
        for name, shape in self._shapes.items():
            parts = [tensors[each] for each in _names(name, names) if each in tensors]
            if len(shape) > 1 and _are_whole(parts, shape):
                found[name] = tuple(parts)
        return found


def _names(name: str, names: TensorNameMap) -> Iterator[str]:
    """Yield the names of the tensors that a weight may be made of."""
    for ending, parts in _STACKS.items():
        if name.endswith(ending) and (layer := _LAYER.search(name)):
            yield from (f"blk.{layer[1]}.{part}.weight" for part in parts)
            return
    if (found := names.get_name(name, (".weight",))) is not None:
        yield found


def _are_whole(parts: list[ReaderTensor], shape: tuple[int, ...]) -> bool:
    """Return whether tensors of one quantised type hold as much as a weight, in any layout."""
    kinds = {part.tensor_type.name for part in parts}
    sizes = [[int(size) for size in reversed(part.shape)] for part in parts]  # columns last
    if len(kinds) != 1 or kinds & _PLAIN or any(len(size) != len(shape) for size in sizes):
        return False
    rows = sum(size[-2] for size in sizes)
    return sorted([*sizes[0][:-2], rows, sizes[0][-1]]) == sorted(shape)
