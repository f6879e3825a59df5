"""Smaller attentions and MLPs: views for scoring, own weights for export; and sorting them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import (
    LinearWeights,
    OrderedWeights,
    PrunedWeights,
    in_own_order,
)
from search_spaces.space.block_options import BlockOptions, ExpertPruning
from search_spaces.structure.components import Projection
from search_spaces.structure.graft import graft
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
from search_spaces.structure.projections import Projections


# an export must load without this package, so modeling_pruned.py of planner/targets/hf/ has a copy
# on purpose: a change of one is a change of both
class LayerConfig:
    """A model's config as one layer sees it: the shared one with some values overridden."""

    def __init__(self, shared: object, overrides: Mapping[str, int]) -> None:
        self.__dict__.update(overrides, _shared=shared)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # copy and pickle ask before anything is set
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"], name)


@dataclass(frozen=True)
class ProjectionSurgery:
    """Makes linear layers smaller, row by row and column by column."""

    component: Projections

    def narrow(
        self,
        dense: nn.Module,
        layer: nn.Module,
        count: int,
        options: BlockOptions,  # noqa: ARG002 - no option changes a slice
        weights: PrunedWeights,
    ) -> nn.Module:
        def slice_first(projection: Projection) -> nn.Module:
            linear = dense.get_submodule(projection.path)
            if projection.path in weights:
                matrix = _like(linear, weights[projection.path])
                return SlicedLinear([(matrix.weight, matrix.bias)])
            keep = projection.units < count
            slice_side = sliced_rows if projection.side == "rows" else sliced_columns
            return slice_side(linear, keep)

        return self._resized(layer, count, weights, slice_first)

    def cut(
        self,
        dense: nn.Module,
        layer: nn.Module,
        kept: NDArray[np.int_],
        inside: ExpertPruning,  # noqa: ARG002 - units have no inside
        ordered: OrderedWeights | None,
    ) -> nn.Module:
        weights = in_own_order(ordered, self.component, kept) if ordered else {}

        def slice_kept(projection: Projection) -> nn.Module:
            linear = dense.get_submodule(projection.path)
            if projection.path in weights:
                matrix = _like(linear, weights[projection.path])
                return rebuilt(linear, matrix.weight, matrix.bias)
            features = np.flatnonzero(np.isin(projection.units, kept))
            cut_side = cut_rows if projection.side == "rows" else cut_columns
            return cut_side(linear, features)

        return self._resized(layer, len(kept), weights, slice_kept)

    def permute_(
        self,
        layer: nn.Module,
        order: NDArray[np.int_],
        channels: NDArray[np.int_] | None,  # noqa: ARG002 - units have no inside
    ) -> None:
        for projection in self.component.projections:
            linear = layer.get_submodule(projection.path)
            permute = permute_rows_ if projection.side == "rows" else permute_columns_
            permute(linear, projection.sorted_features(order))

    def bypass(self, path: str) -> nn.Module:  # noqa: ARG002 - all alike
        return nn.Identity()

    def _resized(
        self,
        layer: nn.Module,
        count: int,
        weights: PrunedWeights,
        slice_projection: Callable[[Projection], nn.Module],
    ) -> nn.Module:
        component = self.component
        is_whole = count == component.unit_count
        changed = [p for p in component.projections if not is_whole or p.path in weights]
        if not changed:
            return layer
        narrow = graft(layer, {p.path: slice_projection(p) for p in changed})
        if component.attributes and not is_whole:
            widths = {name: amount * count for name, amount in component.attributes.items()}
            _set_widths(narrow.get_submodule(component.module), widths)
        return narrow


def _like(linear: nn.Module, weights: LinearWeights) -> LinearWeights:
    """Return weights in the dtype and on the device of a layer's own."""
    dense = linear.weight
    assert isinstance(dense, Tensor)
    bias = None if weights.bias is None else weights.bias.to(dense)
    return LinearWeights(weights.weight.to(dense), bias)


def _set_widths(module: nn.Module, widths: Mapping[str, int]) -> None:
    in_config = {name.removeprefix("config."): w for name, w in widths.items() if "." in name}
    if in_config:
        module.config = LayerConfig(module.config, in_config)  # type: ignore[assignment]
    for name, value in widths.items():
        if "." not in name:
            setattr(module, name, value)
