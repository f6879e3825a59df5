"""Pruned weights give the same model by three roads: by hand, as views, and cut for real."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.errors import DataError, SettingsError
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.compensation import CompensationName, make_compensation
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.types import (
    Choice,
    LinearWeights,
    OrderedWeights,
    PrunedWeights,
    in_own_order,
)
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sorted_model import SortedModel
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import LayerStatistics
from search_spaces.structure.linear import SlicedLinear, bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut, narrowed
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import irregular_plan, random_tokens, run_layers
from tests.models.factory import twin
from tests.models.families import FAMILIES, dense, family_params
from tests.models.pruned_weights import (
    Halved,
    RowMagnitude,
    Units,
    equal,
    measured,
    random_orders,
    set_by_hand_,
)
from tests.models.streamed import opened

DENSE, HALF = BlockOptions(), BlockOptions(pattern=SparsityPattern(percent=50))
PAIRS = BlockOptions(pattern=SparsityPattern(keep=2, group=4))
ROUNDING = 1e-4
"""Of the logits' spread: the same float32 sums in another order, through six layers."""
TEXT = random_tokens(batch=16, length=16, seed=3)


def assert_close(got: Tensor, expected: Tensor) -> None:
    gap = float((got - expected).abs().max())
    assert gap <= ROUNDING * float(expected.std())


def sorted_twin(structure: ModelStructure, orders: list[Units]) -> SortedModel:
    return sort_units_(twin(structure), orders)


def llama_builder(
    name: CompensationName | None = None, **options: object
) -> tuple[ProjectionBuilder, SortedModel]:
    structure = dense("llama")
    orders = random_orders(structure)
    copy = sorted_twin(structure, orders)
    compensation = make_compensation(name) if name else None
    made = ProjectionBuilder(
        copy,
        LayerStatistics.measured(measured(structure, TEXT)),
        compensation=compensation,
        rewriting=Rewriting(sparsifier=RowMagnitude(), **options),  # type: ignore[arg-type]
    )
    return made, copy


CASES = [family_params(name, "least_squares", name=name) for name in FAMILIES]
CASES += [(name, method) for name in ("llama", "gpt2", "phi3") for method in ("bias", "")]


@pytest.mark.parametrize(("name", "method"), CASES)
def test_pruned_weights_are_the_same_by_hand_as_views_and_cut(name: str, method: str) -> None:
    family, structure = FAMILIES[name], dense(name)
    tokens, orders = random_tokens(), random_orders(structure)
    statistics = measured(structure, TEXT)
    counts = [len(units) for units in irregular_plan(family)]
    every = [HALF if position % 3 else DENSE for position in range(len(counts))]
    kept = [np.sort(order[:count]) for order, count in zip(orders, counts, strict=True)]

    by_hand = twin(structure)
    for position, (units, options) in enumerate(zip(kept, every, strict=True)):
        set_by_hand_(by_hand, statistics, position, units, options.pattern, method)
    expected = run_layers(by_hand, list(by_hand.backbone.layers), tokens)

    copy = sorted_twin(structure, orders)
    compensation = make_compensation(method) if method else None  # type: ignore[arg-type]
    builder = ProjectionBuilder(
        copy,
        LayerStatistics.measured(statistics),
        compensation=compensation,
        rewriting=Rewriting(sparsifier=RowMagnitude()),
    )
    built: list[PrunedWeights] = []
    for position, choice in enumerate(zip(counts, every, strict=True)):
        built += builder.build(position, [choice])
    views, cuts = [], []
    for index, layer in enumerate(copy.structure.backbone.layers):
        own = slice(2 * index, 2 * index + 2)
        components = structure.components[own]
        first, second = built[own]
        views.append(
            narrowed(layer, zip(components, counts[own], strict=True), {**first, **second})
        )
        cuts.append(
            cut(
                structure.backbone.layers[index],
                zip(components, kept[own], strict=True),
                [
                    OrderedWeights(weights=weights, order=order)
                    for order, weights in zip(orders[own], built[own], strict=True)
                ],
            )
        )
    assert_close(run_layers(copy.structure, views, tokens), expected)
    assert_close(run_layers(structure, cuts, tokens), expected)
    plain = structure.backbone.model(tokens, use_cache=False).logits
    assert (plain - expected).abs().max() > 0.1 * plain.std()


def test_slices_have_no_pruned_weights() -> None:
    builder, _ = llama_builder("least_squares")
    attention, mlp = 6, 7
    assert list(builder.build(attention, [(0, DENSE), (0, HALF), (2, DENSE)])) == [{}, {}, {}]
    narrow, sparse = builder.build(mlp, [(16, DENSE), (16, HALF)])
    assert list(narrow) == ["mlp.down_proj"]
    assert list(sparse) == ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]
    builder, _ = llama_builder()
    assert list(builder.build(mlp, [(16, DENSE)])) == [{}]
    for count, options in ((0, DENSE), (0, HALF), (16, DENSE), (48, DENSE)):
        assert builder.is_plain(mlp, count, options)
    assert not builder.is_plain(mlp, 48, HALF)


def test_sparse_matrices_are_made_of_compensated_ones_and_hold_their_zeros() -> None:
    builder, _ = llama_builder("least_squares")
    choices: list[Choice] = [(16, DENSE), (16, HALF), (32, HALF), (48, HALF)]
    compensated, sparse, wider, whole = builder.build(3, choices)
    weight = sparse["mlp.down_proj"].weight
    assert torch.equal(weight[weight != 0], compensated["mlp.down_proj"].weight[weight != 0])
    for weights, count in ((sparse, 16), (wider, 32), (whole, 48)):
        for matrix_of in weights.values():
            rows, columns = matrix_of.weight.shape
            assert int((matrix_of.weight == 0).sum()) == HALF.pattern.zeros(rows, columns)
        assert {path: tuple(m.weight.shape) for path, m in weights.items()} == builder.shapes(
            3, count
        )


def test_refinements_come_after_sparsifiers() -> None:
    before, _ = llama_builder()
    after, _ = llama_builder(refinement=Halved())
    (sparse,), (refined,) = (list(b.build(3, [(16, HALF)])) for b in (before, after))
    assert all(torch.equal(refined[path].weight * 2, sparse[path].weight) for path in sparse)


def test_weights_are_rounded_to_what_is_stored() -> None:
    projections, copy = llama_builder("bias")
    structure = copy.structure
    builder = WeightBuilder(projections, dtype=torch.bfloat16)
    (weights,) = builder.build(3, [(16, DENSE)])
    found = weights["mlp.down_proj"]
    assert found.weight.dtype == torch.bfloat16
    assert found.bias is not None
    assert found.bias.dtype == torch.bfloat16
    layer = narrowed(structure.backbone.layers[1], [(structure.components[3], 16)], weights)
    ((weight, offset),) = layer.get_submodule("mlp.down_proj").pieces  # type: ignore[misc]
    assert isinstance(weight, Tensor)
    assert isinstance(offset, Tensor)
    assert torch.equal(weight, found.weight.float())
    assert torch.equal(offset, found.bias.float())


def test_a_bias_adds_to_the_dense_one_and_a_layer_without_gets_one() -> None:
    for name, has_bias in (("qwen2", False), ("gpt2", True)):
        structure = dense(name)
        orders, statistics = random_orders(structure), measured(structure, TEXT)
        copy = sorted_twin(structure, orders)
        builder = ProjectionBuilder(
            copy, LayerStatistics.measured(statistics), compensation=make_compensation("bias")
        )
        (weights,) = builder.build(3, [(16, DENSE)])
        component = structure.components[3]
        output = component.projections[-1]
        linear = structure.backbone.layers[1].get_submodule(output.path)
        removed = torch.from_numpy(orders[3][16:])
        mean = statistics[1]["input_mean", output.path][removed]
        expected = matrix(linear)[:, removed] @ mean
        own = bias(linear)
        assert (own is not None) == has_bias
        expected = expected if own is None else expected + own
        narrow = cut(
            structure.backbone.layers[1],
            [(component, np.sort(orders[3][:16]))],
            [OrderedWeights(weights=weights, order=orders[3])],
        ).get_submodule(output.path)
        assert type(narrow) is type(linear)
        got = bias(narrow)
        assert got is not None
        assert torch.allclose(got, expected, atol=1e-5)


def test_whole_sparse_layers_replace_only_what_changed() -> None:
    builder, copy = llama_builder()
    structure = copy.structure
    (weights,) = builder.build(3, [(48, HALF)])
    layer = structure.backbone.layers[1]
    component, other = structure.components[3], structure.components[2]
    narrow = narrowed(layer, [(other, 2), (component, 48)], weights)
    assert isinstance(narrow.get_submodule("mlp.up_proj"), SlicedLinear)
    assert narrow.get_submodule("self_attn") is layer.get_submodule("self_attn")
    only = {"mlp.up_proj": weights["mlp.up_proj"]}
    partly = narrowed(layer, [(component, 48)], only)
    assert partly.get_submodule("mlp.gate_proj") is layer.get_submodule("mlp.gate_proj")


def test_pruned_weights_of_another_order_are_refused() -> None:
    structure = dense("llama")
    component = structure.components[1]
    weights = {"mlp.down_proj": LinearWeights(torch.zeros(32, 2))}
    with pytest.raises(AssertionError, match=r"layers\.0\.mlp are of another order"):
        in_own_order(
            OrderedWeights(weights=weights, order=np.arange(48)), component, np.array([0, 5])
        )


def test_layers_on_disk_give_the_same_weights(saved_llama: Path) -> None:
    structure = dense("llama")
    orders, statistics = random_orders(structure), measured(structure, TEXT)
    built: list[list[PrunedWeights]] = []
    for found in (opened(saved_llama, "never"), opened(saved_llama, "always")):
        builder = ProjectionBuilder(
            sort_units_(found.structure, orders),
            LayerStatistics.measured(statistics),
            compensation=make_compensation("least_squares"),
            rewriting=Rewriting(sparsifier=RowMagnitude()),
        )
        built.append(list(builder.build(3, [(16, DENSE), (32, HALF)])))
        assert builder.shapes(3, 16)["mlp.up_proj"] == (16, 32)
    found.check_layers_absent()
    for whole, streamed in zip(*built, strict=True):
        assert equal(whole, streamed)


def test_notices_come_once_for_each_component(notices: list[str]) -> None:
    structure = dense("llama")
    orders = random_orders(structure)
    few = measured(structure, random_tokens(batch=1, length=20))
    builder = ProjectionBuilder(
        sorted_twin(structure, orders),
        LayerStatistics.measured(few),
        compensation=make_compensation("obs"),
    )
    for _ in range(2):
        list(builder.build(1, [(16, DENSE), (24, DENSE), (32, DENSE)]))
        list(builder.build(3, [(32, DENSE)]))
    assert len(notices) == 2
    assert notices[0].startswith("`layers.0.mlp`: 20 tokens cannot tell 24 inputs apart")
    assert notices[1].startswith("`layers.1.mlp`: 20 tokens")


def test_a_compensation_that_falls_back_is_a_slice_and_is_warned_of(notices: list[str]) -> None:
    structure = dense("llama")
    orders = random_orders(structure)
    statistics = [dict(found) for found in measured(structure, TEXT)]
    gram = statistics[0]["gram", "mlp.down_proj"]
    statistics[0]["gram", "mlp.down_proj"] = torch.zeros_like(gram)
    builder = ProjectionBuilder(
        sorted_twin(structure, orders),
        LayerStatistics.measured(statistics),
        compensation=make_compensation("least_squares"),
    )
    assert list(builder.build(1, [(16, DENSE), (24, DENSE)])) == [{}, {}]
    assert notices == [
        "`layers.0.mlp`: its inputs are all zero, so that it keeps its dense weights"
    ]


def test_bad_input_is_named() -> None:
    builder, _ = llama_builder()
    with pytest.raises(SettingsError, match=r"`layers\.1\.mlp\.down_proj` has 18"):
        list(builder.build(3, [(18, PAIRS)]))
    structure = dense("llama")
    orders = random_orders(structure)
    builder = ProjectionBuilder(
        sorted_twin(structure, orders),
        LayerStatistics.measured(measured(structure, random_tokens(batch=1, length=8))),
        compensation=make_compensation("least_squares"),
    )
    with pytest.raises(DataError, match="at least 12 tokens"):
        list(builder.build(3, [(16, DENSE)]))
