"""A space that a target restricts: refused if nothing is left, and read rightly by searchers."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from evaluators.costs.cost_model import CostModel
from planner.preparation.dense_model import DenseModel
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.validate_space import check_space
from planner.searching.scorer import Steps
from planner.settings.search import SearchSettings
from planner.targets.loads_in import holds_in
from search_spaces.errors import SettingsError
from search_spaces.models.fingerprint import identify
from search_spaces.models.stored import StoredFormat
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.block_options import DENSE_OPTIONS
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.space.number_format import FORMATS
from search_spaces.structure.model import ModelStructure
from tests.models.factory import LAYERS

ALIKE = Holds(
    equal={"attention": frozenset({"units"}), "mlp": frozenset({"units"})}, whole_layers=True
)


def prepared_with(structure: ModelStructure, words: str, holds: Holds = ALIKE) -> PreparedModel:
    """What a search reads of a model, its units in their own order and equally sensitive."""
    components = structure.components
    identity = identify(structure.backbone.model)
    space = build_space(
        identity,
        components,
        [np.arange(component.unit_count) for component in components],
        choices=Choices.parse(words),
        mlp_step=4,
        holds=holds,
    )
    costs = CostModel(structure, stored=StoredFormat(dtype=torch.float32), context=8)
    loaded: Any = type("Loaded", (), {"identity": identity})
    return PreparedModel(
        dense=DenseModel(loaded=loaded, structure=structure, costs=costs, holds=holds),
        sorted_model=cast("Any", None),
        space=space,
        calibration=cast("Any", None),
        prior=SensitivityPrior(
            units=tuple(np.ones(component.unit_count) for component in components),
            options=(np.zeros(1),) * len(components),
        ),
        layer_builder=cast("Any", None),
        weight_record=cast("Any", None),
        methods=cast("Any", None),
    )


@pytest.mark.parametrize(
    "holds", [ALIKE, replace(ALIKE, whole_layers=False), Holds(whole_layers=True)]
)
def test_searchers_see_the_costs_of_the_cost_model(llama: ModelStructure, holds: Holds) -> None:
    prepared = prepared_with(llama, "heads,channels,drops", holds)
    domain = prepared.make_domain({"params": None, "kv": 0.5}, 0.1)
    rng = np.random.default_rng(0)
    genomes = rng.integers(domain.top_levels + 1, size=(40, len(domain.top_levels)))
    genomes = prepared.space.repaired(genomes)
    configurations = prepared.space.configurations(genomes)
    found, dense = prepared.dense.costs.costs(configurations), prepared.dense.costs.dense()
    expected = np.stack([found[name] / dense[name] for name in ("params", "kv")], axis=1)
    np.testing.assert_allclose(domain.all_costs(genomes), expected, rtol=1e-12)


def test_searchers_see_which_sites_are_shared_and_what_they_prune(llama: ModelStructure) -> None:
    domain = prepared_with(llama, "heads,channels,drops").make_domain({"params": None}, 0.1)
    assert domain.kinds == ("layer",) * LAYERS + ("attention", "mlp")
    assert domain.shared == (LAYERS, LAYERS + 1)
    # of one unit in each layer, four channels in each, and all of a layer
    attention, mlp = domain.sensitivity_tables[-2:]
    assert attention.tolist() == [LAYERS, 0]
    assert mlp[-2] == 4 * LAYERS
    assert domain.sensitivity_tables[0].tolist() == [2 + 48, 0]
    without_drops = prepared_with(llama, "heads,channels").make_domain({"params": None}, 0.1)
    assert without_drops.shared == ()  # their costs add up, each in a joint of its own


def test_gradients_of_a_shared_site_are_those_of_the_units_that_change(
    llama: ModelStructure,
) -> None:
    prepared = prepared_with(llama, "heads,channels,drops")
    slopes = tuple(np.full(c.unit_count, -1.0 - c.layer) for c in llama.components)
    genome = prepared.space.top_levels
    genome[1], genome[-1] = 0, genome[-1] - 1  # layer 1 is dropped, four channels are pruned
    configurations = prepared.space.configurations(genome[None])[0]
    steps = Steps(prepared.space, genome, configurations)
    *layers, attention, mlp = steps.of_units(slopes).values()
    kept = sum(1.0 + layer for layer in range(LAYERS) if layer != 1)
    assert attention.tolist() == pytest.approx([kept, 0])  # a group of each that is there
    assert mlp[-1] == pytest.approx(-4 * kept)
    assert layers[0].tolist() == pytest.approx([2 + 44, 0])
    assert layers[1].tolist() == pytest.approx([0, -2 * (2 + 44)])  # as wide as the others


def settings(**values: Any) -> SearchSettings:
    return SearchSettings.checked(model="m", **values)


def test_a_space_of_which_nothing_can_be_held_is_refused(llama: ModelStructure) -> None:
    dense = prepared_with(llama, "heads").dense
    refused = replace(ALIKE, refuses=lambda _, units, __: "no" if units == 1 else "")
    with pytest.raises(SettingsError, match="vllm can hold pruned of this model, and of heads"):
        check_space(replace(dense, holds=refused), settings(space="heads", loads_in="vllm"))
    check_space(dense, settings(space="heads", loads_in="vllm"))


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        (Holds(refuses_model="it has no head"), "vllm cannot: it has no head; set another"),
        (
            Holds(refuses=lambda component, *_: "it is odd" if component.layer == 2 else ""),
            "vllm cannot at `layers.2.attention`: it is odd; set another",
        ),
    ],
)
def test_a_model_that_is_not_held_as_it_is_is_refused(
    llama: ModelStructure, holds: Holds, said: str
) -> None:
    dense = replace(prepared_with(llama, "heads").dense, holds=holds)
    with pytest.raises(SettingsError) as refusal:
        check_space(dense, settings(space="heads", loads_in="vllm"))
    assert said in str(refusal.value)


def test_biases_that_no_config_knows_are_refused(llama: ModelStructure) -> None:
    dense = prepared_with(llama, "heads").dense
    native = settings(loads_in="transformers-native", compensate="bias")
    with pytest.raises(SettingsError, match=r"must add no biases .* got bias; choose"):
        check_space(dense, native)


def test_all_widths_and_patterns_are_held_where_our_code_is(llama: ModelStructure) -> None:
    assert holds_in("any", llama) == HOLDS_ALL
    holds = holds_in("transformers", llama)
    assert holds.refuses_model == ""
    assert (holds.equal, holds.whole_layers) == (HOLDS_ALL.equal, HOLDS_ALL.whole_layers)
    for component in llama.components:
        for units in range(component.unit_count + 1):
            assert not holds.refusal(component, units, DENSE_OPTIONS)


def test_where_our_code_is_only_what_is_packed_has_another_format(llama: ModelStructure) -> None:
    holds, component = holds_in("transformers", llama), llama.components[0]
    for number_format in FORMATS.values():
        options = replace(DENSE_OPTIONS, format=number_format)
        refused = bool(holds.refusal(component, component.unit_count, options))
        assert refused == (number_format.name not in {"int8", "int4"})


def test_another_place_makes_another_search() -> None:
    first, second = settings(), settings(loads_in="llama.cpp")
    assert first.differences(second) == {"loads_in": ("any", "llama.cpp")}
