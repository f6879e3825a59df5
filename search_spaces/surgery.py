"""Making layers smaller: as views of the dense weights for scoring, for real for export."""

import copy
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.structure.linears import (
    cut_columns,
    cut_rows,
    permute_columns_,
    permute_rows_,
    sliced_columns,
    sliced_rows,
)
from search_spaces.structure.sub_block import Projection, SubBlock


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


def narrowed(layer: nn.Module, choices: Iterable[tuple[SubBlock, int]]) -> nn.Module:
    """Give a layer that keeps the first units of its sub-blocks, sharing all weights.

    Args:
        layer: The dense layer; it stays as it is.
        choices: Each sub-block with the number of units that it keeps; 0 drops it.
    """

    def slice_first(projection: Projection, count: int) -> nn.Module:
        linear = layer.get_submodule(projection.path)
        keep = projection.units < count
        cut = sliced_rows if projection.side == "rows" else sliced_columns
        return cut(linear, keep)

    for block, count in choices:
        if count < block.unit_count:
            layer = _resized(layer, block, count, slice_first)
    return layer


def cut(layer: nn.Module, choices: Iterable[tuple[SubBlock, NDArray[np.int_]]]) -> nn.Module:
    """Give a layer that holds the kept units of its sub-blocks and nothing else.

    Args:
        layer: The dense layer; it stays as it is.
        choices: Each sub-block with the units that it keeps, ascending; none drops it.
    """
    for block, kept in choices:

        def slice_kept(
            projection: Projection,
            _count: int,
            dense: nn.Module = layer,
            kept: NDArray[np.int_] = kept,
        ) -> nn.Module:
            linear = dense.get_submodule(projection.path)
            features = np.flatnonzero(np.isin(projection.units, kept))
            cut_side = cut_rows if projection.side == "rows" else cut_columns
            return cut_side(linear, features)

        if len(kept) < block.unit_count:
            layer = _resized(layer, block, len(kept), slice_kept)
    return layer


def permute_(layer: nn.Module, block: SubBlock, order: NDArray[np.int_]) -> None:
    """Sort the units of a sub-block in place, so that every level is a prefix.

    The layer computes what it computed before, up to the order of its sums.

    Args:
        layer: The layer that holds the sub-block.
        block: The sub-block.
        order: Units from the last to go to the first to go, ``(units,)``.
    """
    for projection in block.projections:
        features = projection.by_unit
        positions = np.empty(len(projection.units), dtype=np.int_)
        positions[features] = features[order]
        linear = layer.get_submodule(projection.path)
        permute = permute_rows_ if projection.side == "rows" else permute_columns_
        permute(linear, positions)


def graft(layer: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Give a copy of a layer with some modules replaced and every other one shared.

    Args:
        layer: The layer; it stays as it is.
        replacements: New modules by their path inside the layer.
    """
    copied = _shallow(layer)
    fresh: dict[str, nn.Module] = {"": copied}
    for path, module in replacements.items():
        names = path.split(".")
        for depth in range(1, len(names)):
            prefix, parent = ".".join(names[:depth]), ".".join(names[: depth - 1])
            if prefix not in fresh:
                fresh[prefix] = _shallow(fresh[parent].get_submodule(names[depth - 1]))
                setattr(fresh[parent], names[depth - 1], fresh[prefix])
        setattr(fresh[".".join(names[:-1])], names[-1], module)
    return copied


def _resized(
    layer: nn.Module,
    block: SubBlock,
    count: int,
    slice_projection: Callable[[Projection, int], nn.Module],
) -> nn.Module:
    if count == 0:
        return graft(layer, _without(block))
    narrow = graft(
        layer,
        {projection.path: slice_projection(projection, count) for projection in block.projections},
    )
    if block.attributes:
        _set_widths(narrow.get_submodule(block.module), block, count)
    return narrow


def _without(block: SubBlock) -> dict[str, nn.Module]:
    """Give the replacements that drop a sub-block, its private norms included."""
    gone: dict[str, nn.Module] = {path: nn.Identity() for path in block.private}
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


def _shallow(module: nn.Module) -> nn.Module:
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    copied._parameters = dict(module._parameters)
    return copied
