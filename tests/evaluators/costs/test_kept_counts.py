"""What is left of a weight in each configuration, by hand."""

import dataclasses

import numpy as np
import torch

from evaluators.costs.kept_counts import KeptCounts
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import UnitWeight
from search_spaces.structure.projections import Projections
from tests.models.experts_by_hand import CHANNELS, HIDDEN, mixture

MLP = Projections(kind="mlp", layer=0, unit_count=3, module="mlp")
NARROW, ONE_RUNS = BlockOptions(channels=2), BlockOptions(top_k=1)


def test_of_a_plain_component_all_kept_units_run() -> None:
    kept = KeptCounts.of(MLP, [BlockOptions()])
    assert kept.members.tolist() == kept.running.tolist() == [[0, 1, 2, 3]]
    weight = UnitWeight(path="up", tensor=torch.ones(6, 5), role="matrix", side="rows")
    assert kept.cost(weight, 30.0).tolist() == [[0.0, 10.0, 20.0, 30.0]]
    copies, rows, columns = kept.shape(weight, 0)
    assert copies.tolist() == [1, 1, 1, 1]
    assert rows.tolist() == [0, 2, 4, 6]
    assert columns.tolist() == 5


def test_of_experts_so_many_run_so_wide() -> None:
    experts = dataclasses.replace(mixture(groups=2), top_k=2)
    kept = KeptCounts.of(experts, [BlockOptions(), NARROW, ONE_RUNS])
    assert kept.members.tolist() == [[0, 2, 4, 6]]
    assert kept.running.tolist() == [[0, 2, 2, 2], [0, 2, 2, 2], [0, 1, 1, 1]]
    assert kept.channels.tolist() == [[CHANNELS], [2], [CHANNELS]]

    down = UnitWeight(
        path="down",
        tensor=torch.ones(6, HIDDEN, CHANNELS),
        role="matrix",
        side="columns",
        is_stacked=True,
    )
    each = HIDDEN * CHANNELS
    whole = kept.cost(down, 6.0 * each)
    assert np.allclose(whole[0], [0, 2 * each, 4 * each, 6 * each])
    assert np.allclose(whole[1], np.array([0, 2, 4, 6]) * HIDDEN * 2)
    assert kept.cost(down, 6.0 * each, running=True)[2].tolist() == [0, each, each, each]
    rows = UnitWeight(path="gate", tensor=torch.ones(6, HIDDEN), role="router", is_stacked=True)
    assert kept.cost(rows, 6.0 * HIDDEN, running=True)[0, -1] == 6 * HIDDEN
    copies, height, width = kept.shape(down, 1)
    assert copies.tolist() == [0, 2, 4, 6]
    assert (int(height), width.tolist()) == (HIDDEN, [2])
