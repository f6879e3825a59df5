"""What every kind of component must bring, and that no room asks for more."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from evaluators.collectors.collect import collect_statistics
from evaluators.collectors.names import keys_of
from evaluators.costs.cost_model import CostModel
from evaluators.latency.latency_setting import Setting
from evaluators.latency.stack_cases import list_cases
from evaluators.latency.workload import Workload
from evaluators.metric import metric_names
from evaluators.scoring.by_gradient.gate_gradients import gate_gradients
from evaluators.scoring.by_gradient.gradient_text import GradientText
from search_spaces.importance import make_expert_importance, make_unit_importance
from search_spaces.importance.order import rank_units
from search_spaces.models.stored import StoredFormat
from search_spaces.priors.sensitivity import prior_from_energy
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.space.block_options import DENSE_OPTIONS
from search_spaces.space.build import lay_out_options
from search_spaces.space.choices import Choices
from search_spaces.space.configuration import dense_configurations
from search_spaces.space.sparsity import DENSE, SparsityPattern, check_patterns
from search_spaces.statistics import LayerStatistics, StatisticName, Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from search_spaces.structure.projections import Projections
from search_spaces.surgery.slice_and_cut import surgery_of
from search_spaces.surgery.sort import sorted_as_is
from tests.models.candidates import random_tokens
from tests.models.cut_models import random_configurations
from tests.models.families import dense
from tests.models.moe_families import mixture

MODELS = {"llama": dense, "gpt2": dense, "mixtral": mixture, "deepseek-v2": mixture}
TOKENS = random_tokens(3, 16)
STATISTICS: frozenset[StatisticName] = frozenset(
    {"input_second_moment", "gate_fisher", "expert_channel_energy", "expert_input_energy"}
)
PATTERNS = (DENSE, SparsityPattern(percent=50))
CHOICES = Choices.parse("heads,channels,drops,experts,top_k,sparsity")


@pytest.fixture(scope="module", params=MODELS)
def structure(request: pytest.FixtureRequest) -> ModelStructure:
    return MODELS[request.param](request.param)


@pytest.fixture(scope="module")
def statistics(structure: ModelStructure) -> tuple[Statistics, ...]:
    return collect_statistics(structure, TOKENS, STATISTICS | {"expert_frequency"})


def each(structure: ModelStructure) -> Iterator[tuple[Component, torch.nn.Module]]:
    for component in structure.components:
        yield component, structure.backbone.layers[component.layer]


def test_its_paths_lie_in_its_layer(structure: ModelStructure) -> None:
    for component, layer in each(structure):
        for path in (*component.paths, component.reader, component.gated_path):
            layer.get_submodule(path)
        assert component.paths
        for path in component.weights(layer):
            assert any(path.startswith(own) for own in component.paths)


def test_its_weights_are_all_that_shrinks(structure: ModelStructure) -> None:
    for component, layer in each(structure):
        weights = component.unit_weights(layer)
        assert len({(weight.path, weight.role) for weight in weights}) == len(weights)
        for weight in weights:
            assert not weight.tensor.numel() % component.member_count
            if weight.is_stacked:
                assert len(weight.tensor) == component.member_count
        matrices = {weight.path: weight for weight in weights if weight.role == "matrix"}
        read = component.weights(layer)
        assert matrices.keys() <= read.keys()
        assert all(each.tensor.numel() == read[path].numel() for path, each in matrices.items())


def test_its_energy_has_one_value_for_each_channel_of_each_member(
    structure: ModelStructure, statistics: tuple[Statistics, ...]
) -> None:
    for component, weights in structure.matrices():
        of_layer = statistics[component.layer]
        energy = component.output_energy(weights, of_layer)
        assert energy.shape == (component.member_count, component.channel_count or 1)
        assert bool((energy >= 0).all())
        assert bool(energy.any())
        for matrices, moments in component.matrix_inputs(weights, of_layer):
            assert moments.shape == (len(matrices), matrices.shape[2])


def test_a_gate_of_zero_silences_a_unit_and_one_of_one_does_nothing(
    structure: ModelStructure,
) -> None:
    for component, layer in each(structure):
        ones = torch.ones(component.unit_count)
        first_gone = ones.clone()
        first_gone[0] = 0
        given: list[tuple[Any, ...]] = []
        gated = layer.get_submodule(component.gated_path)
        with gated.register_forward_pre_hook(lambda _m, args, given=given: given.append(args)):
            structure.backbone.enter(TOKENS)
        (args,) = given
        for got, expected in zip(component.gated(args, ones), args, strict=True):
            assert torch.equal(got, expected)
        changed = component.gated(args, first_gone)
        assert any(
            not torch.equal(got, expected) for got, expected in zip(changed, args, strict=True)
        )


def test_dense_is_in_reach_of_what_can_be_kept(structure: ModelStructure) -> None:
    for component in structure.components:
        assert 1 <= component.lowest <= component.unit_count
        assert component.least_top_k <= component.top_k <= component.member_count
        order = np.arange(component.member_count)
        assert component.members(order, component.unit_count).tolist() == order.tolist()


def _made_up(component: Component) -> Component:
    """A component of a class that no room knows, with the answers of one that it knows."""
    cls = type(component)
    taken = {name: vars(cls)[name] for name in vars(cls) if not name.startswith("_")}
    made: Any = type("MadeUp", (Component,), {**taken, "__annotations__": cls.__annotations__})
    made = dataclass(frozen=True, kw_only=True)(made)
    return cast("Component", made(**vars(component)))


@pytest.fixture(scope="module")
def made_up(structure: ModelStructure) -> ModelStructure:
    layers = tuple(
        replace(layer, components=tuple(map(_made_up, layer.components)))
        for layer in structure.layers
    )
    made = replace(structure, layers=layers)
    assert not any(isinstance(each, Projections | Mixture) for each in made.components)
    return made


def test_no_room_asks_for_the_class_of_a_component(
    structure: ModelStructure, made_up: ModelStructure, statistics: tuple[Statistics, ...]
) -> None:
    def described(model: ModelStructure) -> Mapping[str, Any]:
        options = lay_out_options(model.components, CHOICES, PATTERNS, 4)
        costs = CostModel(
            model,
            stored=StoredFormat(dtype=torch.bfloat16),
            context=8,
            block_options=options,
            adds_bias=True,
        )
        orders = rank_units(
            model, make_unit_importance("wanda"), statistics, make_expert_importance("random")
        )
        prior = prior_from_energy(model, statistics, options)
        text = GradientText(model.backbone, TOKENS, model.backbone.enter(TOKENS).final)
        dense = dense_configurations(model.components)
        gates = gate_gradients(sorted_as_is(model), [text], dense)
        workload = Workload(batch_size=1, prompt_tokens=4, new_tokens=2)
        found = {
            name: cost.tolist()
            for name, cost in costs.costs(random_configurations(structure, 5)).items()
            if name not in metric_names("experts")
        }
        return {
            "options": options,
            "costs": found,
            "keys": [list(keys_of(layer, STATISTICS)) for layer in model.layers],
            "orders": [order.tolist() for order in orders],
            "channels": {key: order.tolist() for key, order in orders.channels.items()},
            "prior": [values.tolist() for values in (*prior.units, *prior.options)],
            "gates": [gate.tolist() for gate in gates],
            "timed": list_cases(model, options, bare_layers=True),
            "setting": Setting.of(model, workload, options),
        }

    expected, got = described(structure), described(made_up)
    for name, value in expected.items():
        assert got[name] == value, name


def test_patterns_are_checked_of_any_component(made_up: ModelStructure) -> None:
    for component, layer in each(made_up):
        check_patterns(component, layer, [component.unit_count], [], PATTERNS)


def test_surgery_says_what_it_cannot_cut(made_up: ModelStructure) -> None:
    with pytest.raises(NotImplementedError, match="MadeUp"):
        surgery_of(made_up.components[0])


def test_no_builder_takes_weights_that_it_does_not_know(made_up: ModelStructure) -> None:
    statistics = LayerStatistics.measured(())
    builder = WeightBuilder(ProjectionBuilder(sorted_as_is(made_up), statistics))
    with pytest.raises(NotImplementedError, match="MadeUp"):
        builder.is_plain(0, 1, DENSE_OPTIONS)
