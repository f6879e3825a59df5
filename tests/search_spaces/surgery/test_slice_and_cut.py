"""Three routes to a smaller model agree: views of sorted weights, masks, and real cuts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.structure.components import Component
from search_spaces.structure.linear import SlicedLinear, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import Dropped, cut, narrowed
from search_spaces.surgery.slice_projections import LayerConfig
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import (
    irregular_plan,
    masked_logits,
    random_tokens,
    run_layers,
    uniform_plan,
)
from tests.models.families import Family
from tests.models.parts import attention_of, mlp_of

Units = NDArray[np.int_]
ROUNDING = 1e-4
"""Of the logits' spread: the same float32 sums in another order, through six layers."""


def assert_close(got: Tensor, expected: Tensor) -> None:
    gap = float((got - expected).abs().max())
    assert gap <= ROUNDING * float(expected.std())


def by_layer(structure: ModelStructure, kept: list[Units]) -> list[list[tuple[Component, Units]]]:
    pairs = list(zip(structure.components, kept, strict=True))
    return [pairs[start : start + 2] for start in range(0, len(pairs), 2)]


def kept_first(structure: ModelStructure, kept: list[Units]) -> list[Units]:
    """Put the kept units first, in an order that is not their own."""
    return [
        np.concatenate([units[::-1], np.setdiff1d(np.arange(component.unit_count), units)])
        for units, component in zip(kept, structure.components, strict=True)
    ]


def tensors_of(layer: nn.Module) -> list[Tensor]:
    """Give all that a layer computes with, views included."""
    pieces = [
        tensor
        for module in layer.modules()
        if isinstance(module, SlicedLinear)
        for piece in module.pieces
        for tensor in piece
        if tensor is not None
    ]
    return [*layer.parameters(), *pieces]


def test_sorting_changes_no_logit(sortable: ModelStructure) -> None:
    tokens = random_tokens()
    model, layers = sortable.backbone.model, sortable.backbone.layers
    expected = model(tokens, use_cache=False).logits

    def matrices() -> list[Tensor]:
        return [
            matrix(layers[component.layer].get_submodule(projection.path)).clone()
            for component in sortable.components
            for projection in component.projections
        ]

    before = matrices()
    sort_units_(
        sortable, [np.arange(component.unit_count)[::-1] for component in sortable.components]
    )
    assert_close(model(tokens, use_cache=False).logits, expected)
    assert not any(torch.equal(a, b) for a, b in zip(before, matrices(), strict=True))


@pytest.mark.parametrize("plan_of", [irregular_plan, uniform_plan])
def test_cut_views_and_masks_agree(
    plan_of: Callable[[Family], list[Units]],
    family: Family,
    structure: ModelStructure,
    sortable: ModelStructure,
) -> None:
    tokens, kept = random_tokens(), plan_of(family)
    masked = masked_logits(family, structure, kept, tokens)
    dense = structure.backbone.model(tokens, use_cache=False).logits
    assert (masked - dense).abs().max() > 0.1 * dense.std()

    choices = by_layer(structure, kept)
    layers = [cut(*pair) for pair in zip(structure.backbone.layers, choices, strict=True)]
    assert_close(run_layers(structure, layers, tokens), masked)

    sort_units_(sortable, kept_first(sortable, kept))
    views = [
        narrowed(layer, [(component, len(units)) for component, units in choice])
        for layer, choice in zip(sortable.backbone.layers, choices, strict=True)
    ]
    assert_close(run_layers(sortable, views, tokens), masked)


def test_views_copy_no_weight(family: Family, structure: ModelStructure) -> None:
    for layer, choice in zip(
        structure.backbone.layers, by_layer(structure, irregular_plan(family)), strict=True
    ):
        own = {weight.untyped_storage().data_ptr() for weight in layer.parameters()}
        tensors = tensors_of(
            narrowed(layer, [(component, len(units)) for component, units in choice])
        )
        assert {tensor.untyped_storage().data_ptr() for tensor in tensors} <= own


def test_cut_layers_hold_what_is_kept_and_nothing_else(
    family: Family, structure: ModelStructure
) -> None:
    kept = irregular_plan(family)
    for layer, choice in zip(structure.backbone.layers, by_layer(structure, kept), strict=True):
        for component, units in choice:
            smaller = cut(layer, [(component, units)])
            names = dict(smaller.named_parameters())
            for path, unit_of in (family.attention | family.mlp).items():
                belongs = any(projection.path == path for projection in component.projections)
                dense: Any = layer.get_submodule(path)
                if belongs and not len(units):
                    assert f"{path}.weight" not in names
                    continue
                share = len(units) / component.unit_count if belongs else 1.0
                weight = names[f"{path}.weight"]
                assert weight.numel() == dense.weight.numel() * share
                is_output = path in (list(family.attention)[-1], list(family.mlp)[-1])
                if dense.bias is not None and belongs and not is_output:
                    expected = dense.bias[torch.from_numpy(np.isin(unit_of, units))]
                    assert torch.equal(names[f"{path}.bias"], expected)
                if belongs and len(units) < component.unit_count:
                    assert weight.untyped_storage().nbytes() == weight.nbytes


def test_narrow_layers_leave_the_dense_one_alone(
    family: Family, structure: ModelStructure
) -> None:
    tokens = random_tokens()
    before = structure.backbone.model(tokens, use_cache=False).logits
    for layer, choice in zip(
        structure.backbone.layers, by_layer(structure, irregular_plan(family)), strict=True
    ):
        names = list(dict(layer.named_modules()))
        narrowed(layer, [(component, len(units)) for component, units in choice])
        cut(layer, choice)
        assert list(dict(layer.named_modules())) == names
    assert torch.equal(structure.backbone.model(tokens, use_cache=False).logits, before)


def test_keeping_everything_gives_the_layer_itself(llama: ModelStructure) -> None:
    layer, read = llama.backbone.layers[0], llama.layers[0]
    assert narrowed(layer, [(attention_of(read), 2), (mlp_of(read), 48)]) is layer
    assert cut(layer, [(attention_of(read), np.arange(2)), (mlp_of(read), np.arange(48))]) is layer


def test_what_is_dropped_adds_nothing() -> None:
    hidden = torch.ones(1, 2, 3)
    alone = Dropped()(hidden, "mask", cache=None)
    assert torch.equal(alone, torch.zeros(1, 2, 3))
    first, second = Dropped(returns=2)(hidden)
    assert torch.equal(first, torch.zeros(1, 2, 3))
    assert second is None


def test_a_layer_sees_its_own_values_and_the_shared_ones() -> None:
    class Shared:
        heads, width = 4, 32

    config = LayerConfig(Shared(), {"heads": 2})
    assert (config.heads, config.width) == (2, 32)
    Shared.width = 64
    assert config.width == 64
    with pytest.raises(AttributeError):
        _ = config.depth
