"""Making layers smaller: as views of the dense weights for scoring, for real for export."""

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import Level, Matrix, in_own_order
from search_spaces.space.block_options import PLAIN, WHOLE, Thinned, Variant
from search_spaces.structure.components import Projection, SubBlock
from search_spaces.structure.linear import (
    SlicedLinear,
    cut_columns,
    cut_rows,
    permute_columns_,
    permute_rows_,
    rebuilt,
    sliced_columns,
    sliced_rows,
)
from search_spaces.surgery.slice_experts import (
    Unrouted,
    cut_modules,
    narrow_modules,
    permute_experts_,
    set_counts,
    shallow,
)


class Dropped(nn.Module):
    """Stands where an attention or an MLP was: gives zeros in the shape of the hidden states.

    Args:
        returns: How many values the original returned; all but the first become None.
    """

    def __init__(self, returns: int = 1) -> None:
        super().__init__()
        self.returns = returns

    def forward(
        self, hidden_states: Tensor, *_args: object, **_kwargs: object
    ) -> Tensor | tuple[Tensor | None, ...]:
        zeros = torch.zeros_like(hidden_states)
        return zeros if self.returns == 1 else (zeros, *[None] * (self.returns - 1))


class LayerConfig:
    """A model's config as one layer sees it: the shared one, with some values of its own."""

    def __init__(self, shared: object, own: Mapping[str, int]) -> None:
        self.__dict__.update(own, _shared=shared)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked by copy and pickle before anything is set
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"], name)


def narrowed(
    layer: nn.Module,
    choices: Iterable[tuple[SubBlock, int]],
    level: Level = MappingProxyType({}),
    variant: Variant = PLAIN,
) -> nn.Module:
    """Give a layer that keeps the first units of its sub-blocks, sharing all weights.

    Args:
        layer: The dense layer; it stays as it is.
        choices: Each sub-block with the number of units that it keeps; 0 drops it.
        level: What takes the place of slices, of all sub-blocks together.
        variant: How its experts are thinned out, where it has some.
    """

    def slice_first(projection: Projection, count: int) -> nn.Module:
        linear = layer.get_submodule(projection.path)
        if projection.path in level:
            matrix = _like(linear, level[projection.path])
            return SlicedLinear([(matrix.weight, matrix.bias)])
        keep = projection.units < count
        cut = sliced_rows if projection.side == "rows" else sliced_columns
        return cut(linear, keep)

    narrow = layer
    for block, count in choices:
        if block.experts is None or not count:
            narrow = _resized(narrow, block, count, level, slice_first)
            continue
        own = any(stack.path in level for stack in block.mixture.stacks)
        is_whole = count == block.unit_count and not variant.channels and not own
        if not is_whole:
            narrow = graft(narrow, narrow_modules(layer, block, count, variant, level))
        elif variant.top_k:
            narrow = graft(narrow, narrow_modules(layer, block, count))
        if not is_whole or variant.top_k:
            set_counts(narrow, block, count * block.group_count, variant.top_k)
    return narrow


def cut(
    layer: nn.Module,
    choices: Iterable[tuple[SubBlock, NDArray[np.int_]]],
    levels: Iterable[tuple[NDArray[np.int_], Level] | None] = (),
    thinned: Thinned = WHOLE,
) -> nn.Module:
    """Give a layer that holds the kept units of its sub-blocks and nothing else.

    Args:
        layer: The dense layer, its units in their own order; it stays as it is.
        choices: Each sub-block with the units (of a mixture, the experts) that it keeps,
            ascending; none drops it.
        levels: For each of them its units from the last to go to the first to go, ``(units,)``,
            and what takes the place of slices of the model sorted so; none: nothing does.
        thinned: How its experts are thinned out, where it has some.
    """
    narrow = layer
    for (block, kept), ordered in zip_longest(choices, levels):
        if block.experts is not None and len(kept):
            members, own = kept, ordered[1] if ordered else {}
            if ordered and own:  # it is all here, and may stay sorted
                members = block.members(ordered[0], len(kept) // block.group_count)
                assert set(members) == set(kept), f"the level of {block.name} is of another order"
            narrow = graft(narrow, cut_modules(layer, block, members, thinned, own))
            set_counts(narrow, block, len(kept), thinned.top_k)
            continue
        level = in_own_order(ordered[1], block, ordered[0], kept) if ordered else {}

        def slice_kept(
            projection: Projection,
            _count: int,
            kept: NDArray[np.int_] = kept,
            level: Level = level,
        ) -> nn.Module:
            linear = layer.get_submodule(projection.path)
            if projection.path in level:
                matrix = _like(linear, level[projection.path])
                return rebuilt(linear, matrix.weight, matrix.bias)
            features = np.flatnonzero(np.isin(projection.units, kept))
            cut_side = cut_rows if projection.side == "rows" else cut_columns
            return cut_side(linear, features)

        narrow = _resized(narrow, block, len(kept), level, slice_kept)
    return narrow


def permute_(
    layer: nn.Module,
    block: SubBlock,
    order: NDArray[np.int_],
    channels: NDArray[np.int_] | None = None,
) -> None:
    """Sort the units of a sub-block in place, so that every level is a prefix.

    The layer computes what it computed before, up to the order of its sums.

    Args:
        layer: The layer that holds the sub-block.
        block: The sub-block.
        order: Members from the last to go to the first to go, ``(members,)``.
        channels: Of its experts, likewise, ``(members, channels)``; none: they keep their order.
    """
    if block.experts is not None:
        permute_experts_(layer, block, order, channels)
    for projection in block.projections:
        linear = layer.get_submodule(projection.path)
        permute = permute_rows_ if projection.side == "rows" else permute_columns_
        permute(linear, projection.sorted_features(order))


def graft(layer: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Give a copy of a layer with some modules replaced and every other one shared.

    Args:
        layer: The layer; it stays as it is.
        replacements: New modules by their path inside the layer.
    """
    copied = shallow(layer)
    fresh: dict[str, nn.Module] = {"": copied}
    for path, module in replacements.items():
        names = path.split(".")
        for depth in range(1, len(names)):
            prefix, parent = ".".join(names[:depth]), ".".join(names[: depth - 1])
            if prefix not in fresh:
                fresh[prefix] = shallow(fresh[parent].get_submodule(names[depth - 1]))
                setattr(fresh[parent], names[depth - 1], fresh[prefix])
        setattr(fresh[".".join(names[:-1])], names[-1], module)
    return copied


def _resized(
    layer: nn.Module,
    block: SubBlock,
    count: int,
    level: Level,
    slice_projection: Callable[[Projection, int], nn.Module],
) -> nn.Module:
    if count == 0:
        return graft(layer, _without(block))
    is_whole = count == block.unit_count
    changed = [p for p in block.projections if not is_whole or p.path in level]
    if not changed:
        return layer
    narrow = graft(layer, {p.path: slice_projection(p, count) for p in changed})
    if block.attributes and not is_whole:
        _set_widths(narrow.get_submodule(block.module), block, count)
    return narrow


def _like(linear: nn.Module, matrix: Matrix) -> Matrix:
    """Give a matrix in the dtype and on the device of a layer's weights."""
    dense = linear.weight
    assert isinstance(dense, Tensor)
    bias = None if matrix.bias is None else matrix.bias.to(dense)
    return Matrix(matrix.weight.to(dense), bias)


def _without(block: SubBlock) -> dict[str, nn.Module]:
    """Give the replacements that drop a sub-block, its private norms included."""
    gone: dict[str, nn.Module] = {path: nn.Identity() for path in block.private}
    if block.experts is not None and block.experts.router in gone:
        gone[block.experts.router] = Unrouted()
    if block.module:
        return gone | {block.module: Dropped(block.returns)}
    *inputs, output = block.projections
    return gone | {p.path: nn.Identity() for p in inputs} | {output.path: Dropped()}


def _set_widths(module: nn.Module, block: SubBlock, count: int) -> None:
    own = {name: amount * count for name, amount in block.attributes.items()}
    shared = {name.removeprefix("config."): value for name, value in own.items() if "." in name}
    if shared:
        module.config = LayerConfig(module.config, shared)  # type: ignore[assignment]
    for name, value in own.items():
        if "." not in name:
            setattr(module, name, value)
