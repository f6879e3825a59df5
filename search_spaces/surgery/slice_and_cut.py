"""Smaller layers: as views of the dense weights for scoring, with their own weights for export."""

from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import (
    LinearWeights,
    OrderedWeights,
    PrunedWeights,
    in_own_order,
)
from search_spaces.space.block_options import (
    DENSE_EXPERTS,
    DENSE_OPTIONS,
    BlockOptions,
    ExpertPruning,
)
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


# an export must load without this package, so modeling_pruned.py of planner/export/hf/ has copies
# of `Dropped`, `LayerConfig` and `Unrouted` on purpose: a change of one is a change of both
class Dropped(nn.Module):
    """Takes the place of a dropped attention or MLP: returns zeros shaped like the hidden states.

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
    """A model's config as one layer sees it: the shared one with some values overridden."""

    def __init__(self, shared: object, overrides: Mapping[str, int]) -> None:
        self.__dict__.update(overrides, _shared=shared)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # copy and pickle ask before anything is set
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"], name)


def narrowed(
    layer: nn.Module,
    choices: Iterable[tuple[Component, int]],
    weights: PrunedWeights = MappingProxyType({}),
    options: BlockOptions = DENSE_OPTIONS,
) -> nn.Module:
    """Return a layer that keeps the first units of its components, sharing all weights.

    Args:
        layer: The dense layer, its units in pruning order; it is not changed.
        choices: Each component with the number of units that it keeps; 0 drops it.
        weights: Replace slices of the dense weights, of all components together.
        options: Of its experts, if it has some.
    """

    def slice_first(projection: Projection, count: int) -> nn.Module:
        linear = layer.get_submodule(projection.path)
        if projection.path in weights:
            matrix = _like(linear, weights[projection.path])
            return SlicedLinear([(matrix.weight, matrix.bias)])
        keep = projection.units < count
        slice_side = sliced_rows if projection.side == "rows" else sliced_columns
        return slice_side(linear, keep)

    narrow = layer
    for component, count in choices:
        if component.experts is None or not count:
            narrow = _resized(narrow, component, count, weights, slice_first)
            continue
        is_replaced = any(stack.path in weights for stack in component.mixture.stacks)
        is_dense = count == component.unit_count and not options.channels and not is_replaced
        if not is_dense:
            modules = narrow_modules(layer, component, count, options, weights)
            narrow = graft(narrow, modules)
        elif options.top_k:
            narrow = graft(narrow, narrow_modules(layer, component, count))
        if not is_dense or options.top_k:
            set_counts(narrow, component, count * component.group_count, options.top_k)
    return narrow


def cut(
    layer: nn.Module,
    choices: Iterable[tuple[Component, NDArray[np.int_]]],
    ordered_weights: Iterable[OrderedWeights | None] = (),
    expert_pruning: ExpertPruning = DENSE_EXPERTS,
) -> nn.Module:
    """Return a layer that holds the kept units of its components and nothing else.

    Args:
        layer: The dense layer, its units in the model's own order; it is not changed.
        choices: Each component with the units (of a mixture, the experts) that it keeps,
            ascending; an empty array drops it.
        ordered_weights: Of each component, what replaces slices of the sorted model; None: nothing
            does.
        expert_pruning: Inside its experts, if it has some.
    """
    narrow = layer
    for (component, kept_units), ordered in zip_longest(choices, ordered_weights):
        if component.experts is not None and len(kept_units):
            members, replacements = kept_units, ordered.weights if ordered else {}
            if ordered and replacements:  # all experts are replaced, and may stay sorted
                members = component.members(
                    ordered.order, len(kept_units) // component.group_count
                )
                assert set(members) == set(kept_units), (
                    f"the weights of {component.name} are of another order"
                )
            modules = cut_modules(layer, component, members, expert_pruning, replacements)
            narrow = graft(narrow, modules)
            set_counts(narrow, component, len(kept_units), expert_pruning.top_k)
            continue
        weights: PrunedWeights = {}
        if ordered:
            weights = in_own_order(ordered, component, kept_units)

        def slice_kept(
            projection: Projection,
            _count: int,
            kept_units: NDArray[np.int_] = kept_units,
            weights: PrunedWeights = weights,
        ) -> nn.Module:
            linear = layer.get_submodule(projection.path)
            if projection.path in weights:
                matrix = _like(linear, weights[projection.path])
                return rebuilt(linear, matrix.weight, matrix.bias)
            features = np.flatnonzero(np.isin(projection.units, kept_units))
            cut_side = cut_rows if projection.side == "rows" else cut_columns
            return cut_side(linear, features)

        narrow = _resized(narrow, component, len(kept_units), weights, slice_kept)
    return narrow


def permute_(
    layer: nn.Module,
    component: Component,
    order: NDArray[np.int_],
    channels: NDArray[np.int_] | None = None,
) -> None:
    """Sort the units of a component in place, so that every width is a prefix.

    The layer computes what it computed before, up to the order of its sums.

    Args:
        layer: The layer that holds the component.
        component: The component.
        order: Members by falling importance, ``(members,)``.
        channels: The same for the channels of its experts, ``(members, channels)``; None: these
            keep their order.
    """
    if component.experts is not None:
        permute_experts_(layer, component, order, channels)
    for projection in component.projections:
        linear = layer.get_submodule(projection.path)
        permute = permute_rows_ if projection.side == "rows" else permute_columns_
        permute(linear, projection.sorted_features(order))


def graft(layer: nn.Module, replacements: Mapping[str, nn.Module]) -> nn.Module:
    """Return a copy of a layer with some modules replaced and all others shared.

    Args:
        layer: The layer; it is not changed.
        replacements: New modules by their path inside the layer.
    """
    root = shallow(layer)
    copies: dict[str, nn.Module] = {"": root}
    for path, module in replacements.items():
        names = path.split(".")
        for depth in range(1, len(names)):
            prefix, parent = ".".join(names[:depth]), ".".join(names[: depth - 1])
            if prefix not in copies:
                copies[prefix] = shallow(copies[parent].get_submodule(names[depth - 1]))
                setattr(copies[parent], names[depth - 1], copies[prefix])
        setattr(copies[".".join(names[:-1])], names[-1], module)
    return root


def _resized(
    layer: nn.Module,
    component: Component,
    count: int,
    weights: PrunedWeights,
    slice_projection: Callable[[Projection, int], nn.Module],
) -> nn.Module:
    if count == 0:
        return graft(layer, _without(component))
    is_whole = count == component.unit_count
    changed = [p for p in component.projections if not is_whole or p.path in weights]
    if not changed:
        return layer
    narrow = graft(layer, {p.path: slice_projection(p, count) for p in changed})
    if component.attributes and not is_whole:
        _set_widths(narrow.get_submodule(component.module), component, count)
    return narrow


def _like(linear: nn.Module, weights: LinearWeights) -> LinearWeights:
    """Return weights in the dtype and on the device of a layer's own."""
    dense = linear.weight
    assert isinstance(dense, Tensor)
    bias = None if weights.bias is None else weights.bias.to(dense)
    return LinearWeights(weights.weight.to(dense), bias)


def _without(component: Component) -> dict[str, nn.Module]:
    """Return the replacements that drop a component, its private norms included."""
    replacements: dict[str, nn.Module] = {path: nn.Identity() for path in component.private}
    if component.experts is not None and component.experts.router in replacements:
        replacements[component.experts.router] = Unrouted()
    if component.module:
        return replacements | {component.module: Dropped(component.returns)}
    *inputs, output = component.projections
    bypassed = {p.path: nn.Identity() for p in inputs}
    return replacements | bypassed | {output.path: Dropped()}


def _set_widths(module: nn.Module, component: Component, count: int) -> None:
    widths = {name: amount * count for name, amount in component.attributes.items()}
    in_config = {name.removeprefix("config."): w for name, w in widths.items() if "." in name}
    if in_config:
        module.config = LayerConfig(module.config, in_config)  # type: ignore[assignment]
    for name, value in widths.items():
        if "." not in name:
            setattr(module, name, value)
