"""Mixtures of experts in the evaluation engine: shared prefixes, kept experts only, slopes."""

import copy

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.scoring.batches import Fidelity
from evaluators.scoring.by_gradient.gate_gradients import gate_gradients
from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.space.configuration import Configurations, unit_counts
from search_spaces.space.space import SearchSpace
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.mixture import Mixture, mixtures_of
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sorted_as_is
from tests.models.changed_copies import kl_of_change
from tests.models.mixed_configurations import mixed_configurations, space_of
from tests.models.moe_families import EACH_MOE_FAMILY, mixture

WINDOWS = torch.arange(3 * 12).reshape(3, 12) * 7 % 96
STEP = 1e-2


@torch.inference_mode()
def _alone(
    structure: ModelStructure, space: SearchSpace, configurations: Configurations, at: LayerInputs
) -> Tensor:
    """One candidate, one layer after another, every layer run."""
    backbone = structure.backbone
    layer_builder = LayerBuilder(sorted_as_is(structure), space.block_options)
    hidden = at.hidden
    for index, span in enumerate(structure.spans):
        layer = layer_builder.layer(index, configurations[span])
        hidden = backbone.run_layer(layer, hidden, at.calls[index])
    return backbone.leave(hidden)


@pytest.mark.parametrize("name", EACH_MOE_FAMILY)
def test_both_walks_give_what_separate_ones_give_bit_for_bit(name: str) -> None:
    structure = mixture(name)
    space = space_of(structure)
    configurations = mixed_configurations(space, np.random.default_rng(5))
    layer_builder = LayerBuilder(sorted_as_is(structure), space.block_options)
    with torch.inference_mode():
        inputs = structure.backbone.enter(WINDOWS)
        deep = dict(
            PrefixTree(sorted_as_is(structure), layer_builder).walk(configurations, inputs)
        )
        swept = PrefixTree(sorted_as_is(structure), layer_builder).walk_by_layer(
            configurations, [inputs]
        )
        wide = {member: final for _, member, final in swept}
    for member, own in enumerate(configurations):
        expected = _alone(structure, space, own, inputs)
        assert torch.equal(deep[member], expected)
        assert torch.equal(wide[member], expected)


def test_a_shared_prefix_runs_once() -> None:
    structure = mixture("qwen2-moe")
    space = space_of(structure)
    first = space.top_levels.copy()
    second = first.copy()
    second[-1] -= 1  # the last layer's shared expert is narrower
    layer_builder = LayerBuilder(sorted_as_is(structure), space.block_options)
    tree = PrefixTree(sorted_as_is(structure), layer_builder)
    with torch.inference_mode():
        list(
            tree.walk(
                space.configurations(np.stack([first, second])), structure.backbone.enter(WINDOWS)
            )
        )
    # experts and the shared one are one step: both run twice in the last layer
    assert tree.component_runs == len(structure.components) + 2


def test_a_candidate_of_many_experts_touches_none_that_is_gone() -> None:
    structure = copy.deepcopy(mixture("mixtral"))
    space = space_of(structure, "experts")
    configurations = space.configurations(
        np.zeros((1, len(space.sites)), dtype=np.int_)
    )  # two of eight each
    expected = dict(Evaluator(sorted_as_is(structure), WINDOWS, Fidelity()).score(configurations))[
        0
    ].quality["nll"]
    evaluator = Evaluator(sorted_as_is(structure), WINDOWS, Fidelity())
    list(evaluator.score(unit_counts(structure.components)[None]))  # the dense side is kept
    for experts in mixtures_of(structure.components):
        for stack in experts.stacks:
            layer = structure.backbone.layers[experts.layer]
            layer.get_parameter(stack.path)[2:] = torch.nan
    found = dict(evaluator.score(configurations))[0].quality["nll"]
    assert found.value == expected.value


def _kl(structure: ModelStructure, gates: list[NDArray[np.float64]]) -> float:
    """KL to the dense model of a float64 copy whose experts' last matrices are scaled."""

    def scale(layers: nn.Module) -> None:
        for component, gate in zip(structure.components, gates, strict=True):
            if isinstance(component, Mixture):
                path = component.stack("down").path
                down = layers.get_parameter(f"{component.layer}.{path}")
                down.mul_(torch.from_numpy(gate).view(-1, 1, 1))

    return kl_of_change(structure, WINDOWS, scale)


def test_slopes_of_experts_are_differences() -> None:
    structure = mixture("mixtral")
    components, backbone = structure.components, structure.backbone
    configurations = unit_counts(components).copy()
    configurations[3], configurations[5] = 5, 6
    with torch.no_grad():
        final = backbone.decoder(input_ids=WINDOWS, use_cache=False).last_hidden_state
    slopes = gate_gradients(
        sorted_as_is(structure), [GradientText(backbone, WINDOWS, final)], configurations
    )
    gates = [
        (np.arange(component.unit_count) < count).astype(np.float64)
        for component, count in zip(components, configurations, strict=True)
    ]
    for position, expert in ((1, 3), (3, 2), (3, 6), (5, 7)):
        found = []
        for step in (STEP, -STEP):
            moved = [gate.copy() for gate in gates]
            moved[position][expert] += step
            found.append(_kl(structure, moved))
        expected = (found[0] - found[1]) / (2 * STEP)
        assert slopes[position][expert] == pytest.approx(expected, rel=2e-2, abs=2e-5)
