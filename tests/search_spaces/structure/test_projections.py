"""What linear layers bring as a component, by hand."""

import numpy as np
import torch
from torch import nn

from search_spaces.structure.components import Projection
from search_spaces.structure.projections import Projections

UP = Projection(path="up", side="rows", units=np.array([0, 1, 0, 1]))
DOWN = Projection(path="down", side="columns", units=np.array([0, 1]))
MLP = Projections(kind="mlp", layer=0, unit_count=2, module="", projections=(UP, DOWN))


def layer() -> nn.Module:
    """Gated in rows 2 and 3; only the rows' bias shrinks with the units."""
    module = nn.Module()
    module.up, module.down = nn.Linear(3, 4), nn.Linear(2, 3)
    return module


def test_features_are_summed_by_unit() -> None:
    assert UP.summed(torch.tensor([1.0, 2.0, 10.0, 20.0])).tolist() == [11.0, 22.0]
    assert (UP.free_axis, DOWN.free_axis) == (1, 0)


def test_weights_that_shrink_are_matrices_and_the_biases_of_rows() -> None:
    found = [(weight.path, weight.role, weight.side) for weight in MLP.unit_weights(layer())]
    assert found == [
        ("up", "matrix", "rows"),
        ("up", "bias", "rows"),
        ("down", "matrix", "columns"),
    ]


def test_energy_is_wandas_of_the_output_projection() -> None:
    weights = {"up": torch.ones(4, 3), "down": torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]])}
    moments = torch.tensor([2.0, 10.0])
    energy = MLP.output_energy(weights, {("input_second_moment", "down"): moments})
    assert energy.tolist() == [[2.0 * (1 + 9)], [10.0 * (4 + 16 + 1)]]


def test_statistics_lie_under_paths_of_their_place() -> None:
    assert MLP.statistic_paths("matrices") == ("up", "down")
    assert MLP.statistic_paths("gates") == ("down",)
    assert MLP.statistic_paths("experts") == ()


def test_heads_are_chosen_of_attentions_and_channels_of_all_else() -> None:
    attention = Projections(kind="attention", layer=0, unit_count=2, module="")
    assert (attention.unit_choice, MLP.unit_choice) == ("heads", "channels")
