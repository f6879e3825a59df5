"""Sparse experts: each matrix by itself, by what the router sent to it."""

import dataclasses
from typing import Any

import pytest
import torch

from search_spaces.errors import SettingsError
from search_spaces.pruned_weights.sparsifiers import SparsifierName, make_sparsifier
from search_spaces.pruned_weights.sparsifiers.expert_stacks import sparse_stacks, stack_statistics
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics
from search_spaces.structure.mixture import Mixture
from tests.models.experts_by_hand import CHANNELS, EXPERTS, HIDDEN, mixture, random_stacks

HALF = SparsityPattern(percent=50)
SIMPLE: tuple[SparsifierName, ...] = ("magnitude", "random", "wanda", "moe_pruner")
LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"transposed": True, "biased": True})


def measured(unused: tuple[int, ...] = ()) -> MatrixStatistics:
    rng = torch.Generator().manual_seed(3)
    inputs = torch.rand(EXPERTS, HIDDEN, generator=rng) * 10
    channels = torch.rand(EXPERTS, CHANNELS, generator=rng) * 10
    inputs[list(unused)] = channels[list(unused)] = 0.0
    return MatrixStatistics(
        tokens=64,
        values={"expert_input_energy": inputs, "expert_channel_energy": channels},
    )


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", SIMPLE)
def test_every_matrix_has_the_zeros_of_the_pattern(
    name: SparsifierName, layout: dict[str, Any]
) -> None:
    component = mixture(**layout)
    stacks = random_stacks(component)
    assert isinstance(component, Mixture)
    found = sparse_stacks(component, stacks, HALF, make_sparsifier(name), measured())
    assert set(found) == {"up", "down"}
    for path, (rows, columns) in (("up", (2 * CHANNELS, HIDDEN)), ("down", (HIDDEN, CHANNELS))):
        assert found[path].shape == stacks[path].shape
        zeros = (found[path] == 0).flatten(1).sum(dim=1)
        assert zeros.tolist() == [HALF.zeros(rows, columns)] * EXPERTS
        kept = found[path] != 0
        assert torch.equal(found[path][kept], stacks[path][kept])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_moe_pruner_multiplies_weights_by_what_the_router_lets_in(layout: dict[str, Any]) -> None:
    component = mixture(**layout)
    stacks = random_stacks(component)
    assert isinstance(component, Mixture)
    statistics = measured()
    found = sparse_stacks(component, stacks, HALF, make_sparsifier("moe_pruner"), statistics)
    names = (("up", "expert_input_energy"), ("down", "expert_channel_energy"))
    for path, name in names:
        for expert in range(EXPERTS):
            weight, sparse = stacks[path][expert], found[path][expert]
            if "transposed" in layout:
                weight, sparse = weight.T, sparse.T
            scores = weight.abs() * statistics.values[name][expert].sqrt()  # type: ignore[index]
            for row, kept in zip(scores, sparse != 0, strict=True):
                assert row[kept].min() >= row[~kept].max()


def test_an_expert_without_tokens_is_scored_by_size() -> None:
    component = mixture()
    stacks = random_stacks(component)
    assert isinstance(component, Mixture)
    pruner = make_sparsifier("moe_pruner")
    found = sparse_stacks(component, stacks, HALF, pruner, measured(unused=(2,)))
    rows = stacks["up"][2].abs()
    kept = found["up"][2] != 0
    for row, stays in zip(rows, kept, strict=True):
        assert row[stays].min() >= row[~stays].max()


def test_groups_of_weights_have_the_pattern_too() -> None:
    component = mixture()
    stacks = random_stacks(component)
    assert isinstance(component, Mixture)
    experts = dataclasses.replace(component, stacks=component.stacks[:1])
    pattern = SparsityPattern.parse("2:4")
    found = sparse_stacks(experts, stacks, pattern, make_sparsifier("moe_pruner"), measured())
    assert ((found["up"] != 0).sum(dim=2) == 2).all()
    with pytest.raises(SettingsError, match="multiple of 4 inputs, and `down` has 5"):
        sparse_stacks(component, stacks, pattern, make_sparsifier("wanda"), measured())


@pytest.mark.parametrize("name", SIMPLE)
def test_only_what_is_needed_is_measured(name: SparsifierName) -> None:
    wanted = stack_statistics(make_sparsifier(name))
    informed = name in {"wanda", "moe_pruner"}
    assert wanted == ({"expert_input_energy", "expert_channel_energy"} if informed else set())


@pytest.mark.parametrize("name", ["sparsegpt", "gblm", "pruner_zero"])
def test_what_is_not_measured_of_experts_is_refused(name: SparsifierName) -> None:
    with pytest.raises(SettingsError, match="choose `moe_pruner`"):
        stack_statistics(make_sparsifier(name))
