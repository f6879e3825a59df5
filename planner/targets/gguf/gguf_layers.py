"""Cut layers named as llama.cpp names them, and the architecture of it that holds them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from gguf import TensorNameMap, get_tensor_name_map
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from planner.targets.gguf.gguf_block import Block, Rows, fitted, rearranged
from planner.targets.gguf.gguf_families import (
    Architecture,
    Family,
    family_of,
    refusal_of,
    varied_architecture,
)
from search_spaces.errors import TargetError
from search_spaces.models.fingerprint import lasting
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure

_ADDED_BIASES = frozenset({"attn_output.bias", "ffn_down.bias"})
_STACKS = {
    "mlp.experts.gate_up_proj": ("ffn_gate_exps.weight", "ffn_up_exps.weight"),
    "mlp.experts.down_proj": ("ffn_down_exps.weight",),
}


_PLAIN: Mapping[str, QuantizedMatrix] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """All layers of a file, and the architecture that holds them."""

    architecture: Architecture
    blocks: Sequence[Block]

    @property
    def filler(self) -> frozenset[str]:
        """Names in the file of the tensors that stand for what is dropped."""
        return frozenset(
            f"blk.{number}.{name}"
            for number, block in enumerate(self.blocks)
            for name in block.filler
        )

    @property
    def row_lengths(self) -> list[int]:
        """Of each matrix."""
        tensors = (tensor for block in self.blocks for tensor in block.tensors.values())
        return [tensor.shape[-1] for tensor in tensors if len(tensor.shape) > 1]


def blocks_of(
    structure: ModelStructure,
    layers: Sequence[nn.Module],
    quantized: Sequence[Mapping[str, QuantizedMatrix]] = (),
) -> Blocks:
    """Lay out layers as the simplest architecture of llama.cpp that holds them wants them.

    Args:
        structure: The dense model.
        layers: That were cut from it, any number of them; those that keep nothing vanish.
        quantized: Of each layer the bytes of its matrices in number formats, by their paths in
            it; empty: there are none.

    Raises:
        TargetError: If no architecture holds them.
    """
    if reason := refusal_of(structure):
        raise TargetError(
            f"a model must be one that GGUF holds, and it is not: {reason}; export with "
            "`--format hf`"
        )
    family = family_of(structure)
    assert family is not None, "a model of no family is refused above"
    reader = _Reader(structure, family)
    in_formats = quantized or [_PLAIN] * len(layers)
    read = [reader.block(*each) for each in zip(layers, in_formats, strict=True)]
    # a model must have some layer
    kept = [block for block in read if block.tensors] or [reader.idle()]
    dense = [reader.block(layer).tensors for layer in structure.backbone.layers]
    known = frozenset(name for tensors in dense for name in tensors)
    architecture = _architecture(structure, family, kept, known)
    _, hidden = embedding_shape(structure)
    blocks = [
        fitted(architecture, block, hidden, needs_head=i == 0) for i, block in enumerate(kept)
    ]
    return Blocks(architecture=architecture, blocks=blocks)


def head_dim_of(structure: ModelStructure) -> int:
    """Return the features of one head, which all layers have in common."""
    attentions = (each for each in structure.components if each.kind == "attention")
    return next(attentions).cached_features // 2


def embedding_shape(structure: ModelStructure) -> tuple[int, int]:
    """Return how many tokens a model knows, and how wide its hidden states are."""
    embedding: Any = structure.backbone.model.get_input_embeddings()
    size, hidden = embedding.weight.shape
    return int(size), int(hidden)


def name_map(family: Family, count: int = 1) -> TensorNameMap:
    """Return what llama.cpp calls the tensors of a family with so many layers."""
    return get_tensor_name_map(family.own.arch, count)


class _Reader:
    """Names the tensors of layers as llama.cpp does, in the layout of transformers."""

    def __init__(self, structure: ModelStructure, family: Family) -> None:
        self._names = name_map(family)
        self._stack = structure.backbone.stack.path
        self._first = structure.backbone.layers[0]
        self._one_added = family.one_added_to_norms
        self._head_dim = head_dim_of(structure)
        self._mixtures = mixtures_of(structure.components)

    def block(self, layer: nn.Module, quantized: Mapping[str, QuantizedMatrix] = _PLAIN) -> Block:
        """Return a layer; one that keeps nothing has no tensors."""
        tensors: dict[str, Rows] = {}
        for path, tensor in lasting(layer).items():
            rows = quantized.get(path) or _rows_first(layer, path, tensor.detach())
            tensors |= self._named(path, rows)
        if not any(name.endswith("weight") and "norm" not in name for name in tensors):
            tensors = {}
        has_experts = "ffn_down_exps.weight" in tensors
        return Block(
            tensors=tensors,
            head_dim=self._head_dim,
            experts_run=self._experts_run(layer) if has_experts else 0,
        )

    def idle(self) -> Block:
        """Return a layer as the dense model's first that adds nothing."""
        block = self.block(self._first)
        outputs = ("attn_output", "ffn_down")
        tensors = {
            name: rearranged(rows, torch.zeros_like) if name.startswith(outputs) else rows
            for name, rows in block.tensors.items()
        }
        return replace(block, tensors=tensors, filler=frozenset(tensors))

    def _named(self, path: str, rows: Rows) -> dict[str, Rows]:
        if path in _STACKS:
            names = _STACKS[path]
            return {
                name: rearranged(rows, partial(_chunk, count=len(names), index=index))
                for index, name in enumerate(names)
            }
        name = self._names.get_name(f"{self._stack}.0.{path}", (".weight", ".bias"))
        if name is None:
            raise TargetError(
                f"each tensor must have a place in a GGUF file, and `{path}` of a layer has none "
                "in llama.cpp's architecture; export with `--format hf`"
            )
        name = name.removeprefix("blk.0.")
        if name == "ffn_gate_inp_shexp.weight":
            rows = rearranged(rows, lambda each: each.flatten())
        is_norm = self._one_added and "norm" in name
        return {name: rearranged(rows, lambda each: each + 1) if is_norm else rows}

    def _experts_run(self, layer: nn.Module) -> int:
        path, attribute = self._mixtures[0].top_k_attributes[0]
        return int(getattr(layer.get_submodule(path), attribute))


def _chunk(stack: Tensor, count: int, index: int) -> Tensor:
    """Return one of as many equal parts of the rows of each matrix in a stack."""
    return stack.chunk(count, dim=1)[index]


def _rows_first(layer: nn.Module, path: str, tensor: Tensor) -> Tensor:
    """Return a tensor with a row for each output, as all but those of `Conv1D` are."""
    module = layer.get_submodule(path.rpartition(".")[0])
    return tensor.t() if isinstance(module, Conv1D) and tensor.ndim == 2 else tensor


def _architecture(
    structure: ModelStructure, family: Family, blocks: Sequence[Block], dense: frozenset[str]
) -> Architecture:
    """Return the family's own architecture if it holds all layers, else that of varied ones."""
    _, hidden = embedding_shape(structure)
    reason = _own_refusal(family.own, blocks, hidden, dense)
    if not reason:
        return family.own
    varied = varied_architecture(structure)
    if varied is None:
        raise TargetError(
            f"layers must be such as `{family.own.name}` of llama.cpp holds, and {reason}; search "
            "with `--loads_in llama.cpp`, or export with `--format hf`"
        )
    if added := _added(blocks, dense) - (_ADDED_BIASES if varied.gains_biases else set()):
        raise TargetError(
            f"layers that differ must have no tensors besides those of `{varied.name}` of "
            f"llama.cpp, and they have `{min(added)}`; search without `--compensate bias`, or "
            "export with `--format hf`"
        )
    return varied


def _own_refusal(
    own: Architecture, blocks: Sequence[Block], hidden: int, dense: frozenset[str]
) -> str:
    """Return why a family's own architecture does not hold some layers; empty: it does."""
    for block in blocks:
        if not (block.has_attention and block.has_feed_forward):
            return "a layer lacks its attention or its MLP"
        if block.shape != blocks[0].shape:
            return "they are of different shapes"
    if own.heads_fill_hidden and blocks[0].heads * blocks[0].head_dim != hidden:
        return f"{blocks[0].heads} heads of {blocks[0].head_dim} features are not {hidden} wide"
    if added := _added(blocks, dense) - (_ADDED_BIASES if own.gains_biases else set()):
        return f"it has no `{min(added)}`, which compensation adds"
    return ""


def _added(blocks: Iterable[Block], dense: frozenset[str]) -> set[str]:
    """Return the names of tensors that the dense model's layers do not have."""
    return {name for block in blocks for name in block.tensors} - dense
