"""A unit's energy relative to the hidden states that it is added to, by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces.harm import guess_by_energy
from search_spaces.patterns import DENSE
from search_spaces.statistics import StatisticName
from search_spaces.structure.linears import matrix
from tests.families import dense


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
    found = guess_by_energy(structure, statistics, (DENSE,)).units
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
