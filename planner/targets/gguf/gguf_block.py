"""One layer as llama.cpp lays it out, with tensors of zeros where it needs some."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from planner.targets.gguf.gguf_families import Architecture
from search_spaces.errors import TargetError
from search_spaces.pruned_weights.quantized import QuantizedMatrix

Rows = Tensor | QuantizedMatrix
"""A tensor, or the bytes of one whose number format a plan chose."""

FILLER_WIDTH = 32
"""Channels of zeros in the place of a dropped MLP: without any, ``deci`` leaves the attention
out too, and most types of numbers come in blocks of 32."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One layer, its tensors named as those of a GGUF file without ``blk.N.``."""

    tensors: Mapping[str, Rows]
    head_dim: int
    experts_run: int = 0
    """For each token; 0: it has no experts."""
    filler: frozenset[str] = frozenset()
    """Names of the tensors that stand for what is dropped."""

    @property
    def has_attention(self) -> bool:
        return "attn_output.weight" in self.tensors

    @property
    def has_feed_forward(self) -> bool:
        return any(name.startswith("ffn_down") for name in self.tensors)

    @property
    def heads(self) -> int:
        """Query heads."""
        return self._rows("attn_output.weight", axis=1) // self.head_dim

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        if fused := self._rows("attn_qkv.weight"):
            return (fused // self.head_dim - self.heads) // 2
        return self._rows("attn_k.weight") // self.head_dim

    @property
    def width(self) -> int:
        """Channels of its MLP, or of each expert."""
        return self._rows("ffn_down.weight", axis=1) or self.expert_width

    @property
    def expert_count(self) -> int:
        return self._rows("ffn_down_exps.weight")

    @property
    def expert_width(self) -> int:
        """Channels of each expert."""
        return self._rows("ffn_down_exps.weight", axis=2)

    @property
    def shared_width(self) -> int:
        """Channels of its shared expert."""
        return self._rows("ffn_down_shexp.weight", axis=1)

    @cached_property
    def shape(self) -> tuple[object, ...]:
        """What two layers must have in common to be alike."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        return self.experts_run, tuple(sorted(shapes.items()))

    def _rows(self, name: str, axis: int = 0) -> int:
        tensor = self.tensors.get(name)
        return 0 if tensor is None else tensor.shape[axis]


def fitted(architecture: Architecture, block: Block, hidden: int, *, needs_head: bool) -> Block:
    """Return a layer as an architecture wants it: rows in its order, and nothing missing.

    Args:
        architecture: That holds it.
        block: The layer in the layout of transformers.
        hidden: Features of the hidden states.
        needs_head: Whether it is the first layer, whose heads ``deci`` takes the sizes from.
    """
    head_dim, fuses = block.head_dim, architecture.fuses_attention
    turned = ("attn_q.", "attn_k.") if architecture.turns_neighbours else ()
    tensors = {
        name: rearranged(rows, lambda each: _neighbours(each, head_dim))
        if name.startswith(turned)
        else rows
        for name, rows in block.tensors.items()
    }
    # norms are in no number format
    like = next(each for each in tensors.values() if isinstance(each, Tensor))
    added: dict[str, Rows] = {}
    if not block.has_attention and (needs_head or fuses):
        added |= _zero_attention(head_dim, hidden, like, has_head_norms=fuses)
    if not block.has_feed_forward:
        added |= _zero_mlp(hidden, like)
    if fuses:
        tensors, added = _fused(tensors, architecture), _fused(added, architecture)
    filler = {**tensors, **added} if block.filler else added
    return replace(block, tensors=tensors | added, filler=frozenset(filler))


def rearranged(rows: Rows, change: Callable[[Tensor], Tensor]) -> Rows:
    """Return a tensor whose rows are others or in another order, its columns as they were.

    Args:
        rows: The tensor.
        change: Picks or moves entries along all axes but the last.
    """
    if isinstance(rows, QuantizedMatrix):
        return QuantizedMatrix(rows.format, change(rows.data))
    return change(rows)


def _fused(tensors: Mapping[str, Rows], architecture: Architecture) -> dict[str, Rows]:
    """Return tensors with queries, keys and values in one matrix, if they are there.

    Raises:
        TargetError: If they came from a file in several number formats.
    """
    names = [f"attn_{part}.weight" for part in "qkv"]
    if names[0] not in tensors:
        return dict(tensors)
    rest = {name: tensor for name, tensor in tensors.items() if name not in names}
    first, *others = [tensors[name] for name in names]
    formats = {
        each.format.name if isinstance(each, QuantizedMatrix) else "16 or 32 bits"
        for each in (first, *others)
    }
    if len(formats) > 1:
        raise TargetError(
            f"queries, keys and values are one matrix in `{architecture.name}` of llama.cpp, and "
            f"in this plan they are in {' and '.join(sorted(formats))}; search with `--loads_in "
            "llama.cpp`, or export with `--format hf`"
        )
    stored = [each.data if isinstance(each, QuantizedMatrix) else each for each in others]
    return rest | {"attn_qkv.weight": rearranged(first, lambda each: torch.cat([each, *stored]))}


def _neighbours(rows: Tensor, head_dim: int) -> Tensor:
    """Reorder the rows of queries or keys so that what is turned together lies side by side."""
    halves = rows.reshape(-1, 2, head_dim // 2, *rows.shape[1:])  # (heads, halves, pairs, ...)
    return halves.transpose(1, 2).reshape(rows.shape)


def _zero_attention(
    head_dim: int, hidden: int, like: Tensor, *, has_head_norms: bool
) -> dict[str, Tensor]:
    """Return an attention of one head that adds nothing."""
    rows, ones = like.new_zeros(head_dim, hidden), like.new_ones(head_dim)
    norms = {"attn_q_norm.weight": ones, "attn_k_norm.weight": ones} if has_head_norms else {}
    return norms | {
        "attn_norm.weight": like.new_ones(hidden),
        "attn_q.weight": rows,
        "attn_k.weight": rows,
        "attn_v.weight": rows,
        "attn_output.weight": rows.t(),
    }


def _zero_mlp(hidden: int, like: Tensor) -> dict[str, Tensor]:
    """Return an MLP that adds nothing."""
    rows = like.new_zeros(FILLER_WIDTH, hidden)
    return {
        "ffn_norm.weight": like.new_ones(hidden),
        "ffn_gate.weight": rows,
        "ffn_up.weight": rows,
        "ffn_down.weight": rows.t(),
    }
