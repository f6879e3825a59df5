"""The latency of mixtures of experts: interpolated by hand, and measured by a counting clock."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evaluators.costs.latency import predict
from evaluators.latency import layer_benchmark as stacks
from evaluators.latency import stack_cases, stack_timer
from evaluators.latency.latency_setting import Setting, timed_inside
from evaluators.latency.latency_table import Curve, Grid, LatencyTable, LayerTimes
from evaluators.latency.layer_benchmark import measure_table
from evaluators.latency.measure import time_request
from evaluators.latency.stack_timer import TorchStackTimer
from search_spaces.space.block_options import combined_options
from search_spaces.space.configuration import ConfigurationTables
from search_spaces.structure.model import ModelStructure
from tests.evaluators.latency.tables import WORKLOAD, both
from tests.evaluators.latency.tables import by_hand as dense_by_hand
from tests.models import tiny
from tests.models.cut_models import cut_layers, random_configurations, ways
from tests.models.moe_families import CHANNELS, EXPERTS, mixture
from tests.models.parts import experts_in


def grid(counts: Sequence[int], top_ks: Sequence[int], channels: Sequence[int]) -> Grid:
    """A millisecond for the call, a tenth for each expert kept, one for each channel run."""
    times = [1 + c / 10 + k * w for c in counts for k in top_ks for w in channels]
    return Grid(
        counts=tuple(counts),
        top_ks=tuple(top_ks),
        channels=tuple(channels),
        latencies=tuple(map(both, times)),
    )


def by_hand(structure: ModelStructure, experts: Grid) -> LatencyTable:
    """Four layers alike, of which the attention takes 2 ms and all experts 32.8."""
    attention = Curve(counts=(1, 2), latencies=(both(2), both(3)))
    parts: dict[str, Curve | Grid] = {"attention": attention, "experts": experts}
    kind = LayerTimes.of((0, 1, 2, 3), both(1), parts)
    return LatencyTable(
        setting=Setting.of(structure, WORKLOAD, ways(structure)),
        dense=both(5 + 4 * (1 + 2 + 32.8)),
        rest=both(5),
        kinds=(kind,),
    )


@pytest.mark.parametrize(
    ("kept", "options", "milliseconds"),
    [
        (8, 0, 0.8 + 2 * 16),
        (5, 0, 0.5 + 2 * 16),
        (5, 1, 0.5 + 2 * 4),
        (3, 2, 0.3 + 1 * 16),
        (3, 3, 0.3 + 1 * 4),
        (0, 3, 0.0),
    ],
)
def test_experts_are_interpolated_between_what_was_timed(
    kept: int, options: int, milliseconds: float
) -> None:
    structure = mixture("mixtral")
    table = by_hand(structure, grid((2, 4, 8), (1, 2), (4, CHANNELS)))
    configurations = ConfigurationTables.of(structure.components, ways(structure)).index(
        np.array([[2, kept] + [2, 8] * 3]), np.array([[0, options] + [0] * 6])
    )
    (found,) = predict(structure, ways(structure), table, configurations)
    others = 5 + 3 * (1 + 2 + 32.8)
    assert found.prefill_ms == pytest.approx(others + 1 + 2 + milliseconds)
    assert found.decode_ms == pytest.approx(found.prefill_ms / 10)


def test_an_axis_that_does_not_change_needs_one_point() -> None:
    structure = mixture("mixtral")
    table = by_hand(structure, grid((2, 8), (2,), (CHANNELS,)))
    plain = [combined_options()] * len(structure.components)
    (found,) = predict(structure, plain, table, np.array([[2, 5] + [2, 8] * 3]))
    assert found.prefill_ms == pytest.approx(5 + 4 * 35.8 - 0.3)


def test_what_is_timed_of_experts_is_little() -> None:
    experts = experts_in(mixture("mixtral").layers[0])
    assert experts is not None
    ten = combined_options(channels=(0, *range(1, 10)), top_ks=(0, 1))
    assert timed_inside(experts, ten) == ((1, 2), (1, 6, CHANNELS))
    assert timed_inside(experts, combined_options()) == ((2,), (CHANNELS,))
    timed = stack_cases._timed(experts, ten)
    assert {count for count, _ in timed} == {2, 4, 6, EXPERTS}
    assert len(timed) == 4 * 2 * 3


def test_a_table_holds_for_the_ways_that_it_was_timed_in(tmp_path: Path) -> None:
    structure = mixture("mixtral")
    plain = [combined_options()] * len(structure.components)
    bare, without = Setting.of(structure, WORKLOAD), Setting.of(structure, WORKLOAD, plain)
    assert bare == without
    assert bare.thinned is None
    assert Setting.of(structure, WORKLOAD, ways(structure)).thinned == "(1, 2) of (4, 16)"
    table = by_hand(structure, grid((2, 4, 8), (1, 2), (4, CHANNELS)))
    path = tmp_path / "latency.json"
    path.write_text(table.to_json())
    assert LatencyTable.load(path) == table


def test_the_table_of_a_dense_model_says_nothing_of_experts() -> None:
    """So that those in the cache and in finished runs, and their digests, stay what they were."""
    text = dense_by_hand(tiny.llama()).to_json()
    assert not any(word in text for word in ("experts", "shared", "thinned", "null"))


@pytest.fixture
def quick_counter(counter: FlopCounterMode, monkeypatch: pytest.MonkeyPatch) -> FlopCounterMode:
    """A clock that counts multiplications, with as few of them as possible."""
    monkeypatch.setattr(stack_timer, "PREFILLS", 1)
    monkeypatch.setattr(stacks, "TURNS", 1)
    monkeypatch.setattr(stack_cases, "MOST_LAYERS", 2)
    return counter


def test_by_a_clock_that_counts_operations_the_prediction_is_exact(
    quick_counter: FlopCounterMode,
) -> None:
    """Of groups of experts, next to a shared one, after a layer that has none."""
    structure = mixture("deepseek-v3")
    block_options = ways(structure)
    with quick_counter:
        table = measure_table(
            structure, TorchStackTimer(structure, WORKLOAD), block_options=block_options
        )
    kinds_of_layers = [set(kind.__pydantic_extra__) for kind in table.kinds]
    assert {"attention", "mlp"} in kinds_of_layers
    assert {"attention", "experts", "shared"} in kinds_of_layers
    for row in random_configurations(structure, 4)[[0, 2]]:
        (found,) = predict(structure, block_options, table, row[None])
        model = copy.deepcopy(structure.backbone.model)
        parent, _, stack = structure.backbone.stack.path.rpartition(".")
        layers = nn.ModuleList(cut_layers(structure, row).values())
        setattr(model.get_submodule(parent), stack, layers)
        with quick_counter:
            measured = time_request(model, WORKLOAD)
        assert found.prefill_ms == pytest.approx(measured.prefill_ms, rel=1e-9)
        assert found.decode_ms == pytest.approx(measured.decode_ms, rel=1e-9)
