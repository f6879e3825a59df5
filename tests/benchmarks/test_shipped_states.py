import numpy as np
import pytest
import torch

from benchmarks.component_times import ComponentTimes
from benchmarks.shipped_states import state_row
from evaluators.scoring.steps import Step


def test_a_state_is_held_against_half_of_the_model() -> None:
    times = ComponentTimes([Step(0, i, i + 1) for i in range(4)], ["mlp"] * 4, 0)
    times.add(np.array([3]), 0.5)
    row = state_row(torch.zeros(4, 128, 576), np.full(4, 3), times)
    assert row["hidden state of"] == "4 windows of 128 tokens"
    assert row["MB"] == pytest.approx(4 * 128 * 576 * 4 / 1e6)
    assert row["run anew to the middle, ms"] == 1000.0
    assert 0 < float(row["passed on, ms"]) < 1000.0
