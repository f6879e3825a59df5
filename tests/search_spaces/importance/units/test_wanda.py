"""Wanda's formula against sums done by hand."""

import numpy as np
import torch

from search_spaces.importance.units.wanda import Wanda
from search_spaces.structure import Component, Projection

# two rows, four columns; columns 0 and 2 are unit 0, columns 1 and 3 unit 1
MATRIX = torch.tensor([[1.0, 2.0, 3.0, 0.0], [-1.0, 0.0, 1.0, 2.0]])
MOMENTS = torch.tensor([1.0, 4.0, 0.5, 0.25])
BLOCK = Component(
    kind="mlp",
    layer=0,
    unit_count=2,
    projections=(
        Projection(path="up", side="rows", units=np.array([0, 1, 0, 1])),
        Projection(path="down", side="columns", units=np.array([0, 1, 0, 1])),
    ),
    module="mlp",
)


def test_importance_is_the_energy_that_a_unit_adds() -> None:
    weights = {"up": torch.full((4, 2), 100.0), "down": MATRIX}
    statistics = {
        ("input_second_moment", "up"): torch.full((2,), 100.0),
        ("input_second_moment", "down"): MOMENTS,
    }
    got = Wanda().importance(BLOCK, weights, statistics)  # type: ignore[arg-type]
    # (1² + 1²)·1 + (3² + 1²)·0.5 and (2² + 0²)·4 + (0² + 2²)·0.25
    assert got.tolist() == [7.0, 17.0]


def test_it_asks_for_what_it_reads() -> None:
    assert Wanda().statistics == {"input_second_moment"}
