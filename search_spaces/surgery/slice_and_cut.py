"""Making layers smaller: as views of the dense weights for scoring, for real for export."""

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights, in_own_order
from search_spaces.space.block_options import DENSE_OPTIONS, UNCUT, BlockOptions, ExpertCut
from search_spaces.structure.components import Component, Projection
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
    choices: Iterable[tuple[Component, int]],
    level: PrunedWeights = MappingProxyType({}),
    options: BlockOptions = DENSE_OPTIONS,
) -> nn.Module:
    """Give a layer that keeps the first units of its components, sharing all weights.

    Args:
        layer: The dense layer; it stays as it is.
        choices: Each component with the number of units that it keeps; 0 drops it.
        level: What takes the place of slices, of all components together.
        options: How its experts are thinned out, where it has some.
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
    for component, count in choices:
        if component.experts is None or not count:
            narrow = _resized(narrow, component, count, level, slice_first)
            continue
        own = any(stack.path in level for stack in component.mixture.stacks)
        is_whole = count == component.unit_count and not options.channels and not own
        if not is_whole:
            narrow = graft(narrow, narrow_modules(layer, component, count, options, level))
        elif options.top_k:
            narrow = graft(narrow, narrow_modules(layer, component, count))
        if not is_whole or options.top_k:
            set_counts(narrow, component, count * component.group_count, options.top_k)
    return narrow


def cut(
    layer: nn.Module,
    choices: Iterable[tuple[Component, NDArray[np.int_]]],
    levels: Iterable[tuple[NDArray[np.int_], PrunedWeights] | None] = (),
    thinned: ExpertCut = UNCUT,
) -> nn.Module:
    """Give a layer that holds the kept units of its components and nothing else.

    Args:
        layer: The dense layer, its units in their own order; it stays as it is.
        choices: Each component with the units (of a mixture, the experts) that it keeps,
            ascending; none drops it.
        levels: For each of them its units from the last to go to the first to go, ``(units,)``,
            and what takes the place of slices of the model sorted so; none: nothing does.
        thinned: How its experts are thinned out, where it has some.
    """
    narrow = layer
    for (component, kept), ordered in zip_longest(choices, levels):
        if component.experts is not None and len(kept):
            members, own = kept, ordered[1] if ordered else {}
            if ordered and own:  # it is all here, and may stay sorted
                members = component.members(ordered[0], len(kept) // component.group_count)
                assert set(members) == set(kept), (
                    f"the level of {component.name} is of another order"
                )
            narrow = graft(narrow, cut_modules(layer, component, members, thinned, own))
            set_counts(narrow, component, len(kept), thinned.top_k)
            continue
        level = in_own_order(ordered[1], component, ordered[0], kept) if ordered else {}

        def slice_kept(
            projection: Projection,
            _count: int,
            kept: NDArray[np.int_] = kept,
            level: PrunedWeights = level,
        ) -> nn.Module:
            linear = layer.get_submodule(projection.path)
            if projection.path in level:
                matrix = _like(linear, level[projection.path])
                return rebuilt(linear, matrix.weight, matrix.bias)
            features = np.flatnonzero(np.isin(projection.units, kept))
            cut_side = cut_rows if projection.side == "rows" else cut_columns
            return cut_side(linear, features)

        narrow = _resized(narrow, component, len(kept), level, slice_kept)
    return narrow


def permute_(
    layer: nn.Module,
    component: Component,
    order: NDArray[np.int_],
    channels: NDArray[np.int_] | None = None,
) -> None:
    """Sort the units of a component in place, so that every level is a prefix.

    The layer computes what it computed before, up to the order of its sums.

    Args:
        layer: The layer that holds the component.
        component: The component.
        order: Members from the last to go to the first to go, ``(members,)``.
        channels: Of its experts, likewise, ``(members, channels)``; none: they keep their order.
    """
    if component.experts is not None:
        permute_experts_(layer, component, order, channels)
    for projection in component.projections:
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
    component: Component,
    count: int,
    level: PrunedWeights,
    slice_projection: Callable[[Projection, int], nn.Module],
) -> nn.Module:
    if count == 0:
        return graft(layer, _without(component))
    is_whole = count == component.unit_count
    changed = [p for p in component.projections if not is_whole or p.path in level]
    if not changed:
        return layer
    narrow = graft(layer, {p.path: slice_projection(p, count) for p in changed})
    if component.attributes and not is_whole:
        _set_widths(narrow.get_submodule(component.module), component, count)
    return narrow


def _like(linear: nn.Module, matrix: LinearWeights) -> LinearWeights:
    """Give a matrix in the dtype and on the device of a layer's weights."""
    dense = linear.weight
    assert isinstance(dense, Tensor)
    bias = None if matrix.bias is None else matrix.bias.to(dense)
    return LinearWeights(matrix.weight.to(dense), bias)


def _without(component: Component) -> dict[str, nn.Module]:
    """Give the replacements that drop a component, its private norms included."""
    gone: dict[str, nn.Module] = {path: nn.Identity() for path in component.private}
    if component.experts is not None and component.experts.router in gone:
        gone[component.experts.router] = Unrouted()
    if component.module:
        return gone | {component.module: Dropped(component.returns)}
    *inputs, output = component.projections
    return gone | {p.path: nn.Identity() for p in inputs} | {output.path: Dropped()}


def _set_widths(module: nn.Module, component: Component, count: int) -> None:
    own = {name: amount * count for name, amount in component.attributes.items()}
    shared = {name.removeprefix("config."): value for name, value in own.items() if "." in name}
    if shared:
        module.config = LayerConfig(module.config, shared)  # type: ignore[assignment]
    for name, value in own.items():
        if "." not in name:
            setattr(module, name, value)
