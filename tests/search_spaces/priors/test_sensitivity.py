"""A unit's energy relative to the hidden states that it is added to, by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.priors.sensitivity import prior_after_compensation, prior_from_energy
from search_spaces.statistics import StatisticName
from search_spaces.structure.linear import matrix
from tests.models.families import dense


def statistics_of(layer: nn.Module, index: int) -> dict[tuple[StatisticName, str], Tensor]:
    moments: dict[tuple[StatisticName, str], Tensor] = {
        ("hidden_energy", ""): torch.tensor(2.0**index)
    }
    for path in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        width = matrix(layer.get_submodule(path)).shape[1]
        moments["input_second_moment", path] = torch.arange(1.0, 1 + width)
    return moments


def test_energies_are_shares_of_the_hidden_states() -> None:
    structure = dense("gpt2")
    layers = structure.backbone.layers
    statistics = [statistics_of(layer, index) for index, layer in enumerate(layers)]
    found = prior_from_energy(structure, statistics).units
    assert len(found) == 12

    layer = layers[3]
    weight = layer.get_submodule("attn.c_proj").weight  # Conv1D: (inputs, outputs)
    assert isinstance(weight, Tensor)
    energy = (weight.double() ** 2).sum(dim=1).numpy() * np.arange(1, 33)
    # sums in float32 there, in float64 here
    assert found[6] == pytest.approx(energy.reshape(4, 8).sum(axis=1) / 8, rel=1e-5)
    weight = layer.get_submodule("mlp.c_proj").weight
    assert isinstance(weight, Tensor)
    energy = (weight.double() ** 2).sum(dim=1).numpy() * np.arange(1, 129)
    assert found[7] == pytest.approx(energy / 8, rel=1e-5)
    assert found[7].dtype == np.float64


@torch.no_grad()
def test_after_compensation_a_width_loses_what_no_fit_recovers() -> None:
    structure = dense("llama")
    generator = torch.Generator().manual_seed(0)
    statistics: list[dict[tuple[StatisticName, str], Tensor]] = []
    for layer in structure.layers:
        own: dict[tuple[StatisticName, str], Tensor] = {("hidden_energy", ""): torch.tensor(2.0)}
        for component in layer.components:
            for projection in component.projections:
                linear = structure.backbone.layers[component.layer].get_submodule(projection.path)
                columns = matrix(linear).shape[1]
                # the second half of the inputs follows from the first but for some noise
                half = torch.randn(500, columns // 2, generator=generator)
                rest = half + 0.5 * torch.randn(half.shape, generator=generator)
                inputs = torch.cat([half, rest], dim=1)
                own["gram", projection.path] = inputs.T @ inputs / len(inputs)
                own["input_second_moment", projection.path] = inputs.square().mean(dim=0)
        statistics.append(own)
    orders = [np.arange(component.unit_count) for component in structure.components]
    energy = prior_from_energy(structure, statistics)
    found = prior_after_compensation(energy, structure, statistics, orders)
    for position, component in enumerate(structure.components):
        lost = np.append(np.cumsum(found.units[position][::-1])[::-1], 0.0)
        assert (np.diff(lost) <= 0).all()
        assert lost[0] >= energy.units[position].sum() * (1 - 1e-6)
        count = component.unit_count // 2
        kept = slice(0, count * len(component.projections[-1].units) // component.unit_count)
        gram = statistics[component.layer]["gram", component.projections[-1].path].double()
        owner = structure.backbone.layers[component.layer]
        weight = matrix(owner.get_submodule(component.projections[-1].path)).double()
        fitted = torch.linalg.solve(gram[kept, kept], gram[kept] @ weight.T)
        left = (weight @ gram @ weight.T).trace() - (fitted.T @ gram[kept] @ weight.T).trace()
        assert lost[count] == pytest.approx(float(left) / 2, rel=0.1)
        assert lost[count] < 0.25 * lost[0]
