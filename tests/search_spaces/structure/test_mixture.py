"""Members, stacks and weights of mixtures made by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces.structure.mixture import as_mixture, mixtures_of
from search_spaces.structure.projections import Projections
from tests.models.experts_by_hand import CHANNELS, EXPERTS, HIDDEN, mixture, random_stacks

MLP = Projections(kind="mlp", layer=0, unit_count=8, module="mlp")


def test_members_of_kept_units_come_group_by_group() -> None:
    grouped = mixture(groups=2)
    assert (grouped.unit_count, grouped.member_count) == (EXPERTS // 2, EXPERTS)
    assert grouped.members(np.array([2, 0, 1, 3, 5, 4]), 2).tolist() == [2, 0, 3, 5]


def test_of_components_mixtures_are_found() -> None:
    experts = mixture()
    assert mixtures_of([MLP, experts, MLP]) == (experts,)
    assert as_mixture(experts) is experts
    with pytest.raises(AssertionError, match=r"layers.0.mlp"):
        as_mixture(MLP)


@pytest.mark.parametrize("transposed", [False, True])
def test_energy_is_that_of_the_columns_that_read_a_channel(transposed: bool) -> None:
    experts = mixture(transposed=transposed)
    stacks = random_stacks(experts)
    channel_energy = torch.rand(EXPERTS, CHANNELS)
    found = experts.output_energy(stacks, {experts.energy_statistic: channel_energy})
    down = stacks["down"].mT if transposed else stacks["down"]  # (experts, hidden, channels)
    assert down.shape == (EXPERTS, HIDDEN, CHANNELS)
    expected = torch.zeros(EXPERTS, CHANNELS)
    for expert in range(EXPERTS):
        for channel in range(CHANNELS):
            norm = down[expert, :, channel] @ down[expert, :, channel]
            expected[expert, channel] = channel_energy[expert, channel] * norm
    torch.testing.assert_close(found, expected)


def test_a_gate_weighs_the_experts_of_its_unit_in_every_group() -> None:
    hidden, chosen = torch.ones(2, HIDDEN), torch.tensor([[0, 3], [1, 5]])
    gate = torch.tensor([0.0, 2.0, 3.0])  # of experts 0 and 3, 1 and 4, 2 and 5
    _, same, weights = mixture(groups=2).gated((hidden, chosen, torch.ones(2, 2)), gate)
    assert same is chosen
    assert weights.tolist() == [[0.0, 0.0], [2.0, 3.0]]


def test_top_k_is_fixed_unless_an_integer_sets_it() -> None:
    experts = mixture()
    assert experts.least_top_k == experts.top_k == 2
    free = replace(experts, top_k_attributes=(("mlp.gate", "top_k"),))
    assert free.least_top_k == 1
