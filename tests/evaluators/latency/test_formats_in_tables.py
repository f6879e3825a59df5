"""Number formats in latency tables: which are timed, and what they are predicted to take."""

import numpy as np
import pytest

from evaluators.costs.latency import predict
from evaluators.latency.latency_setting import ServingRuntime, Setting
from evaluators.latency.latency_table import Curve
from evaluators.latency.layer_benchmark import LayerBenchmark
from evaluators.latency.stack_cases import StackCase, list_cases
from evaluators.latency.stack_timer import Times
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import ConfigurationTables, unit_counts
from search_spaces.space.number_format import FORMATS, SOURCE
from tests.evaluators.latency.tables import WORKLOAD, both, by_hand
from tests.models.tiny import llama

Q8, Q4 = FORMATS["Q8_0"], FORMATS["Q4_0"]
OPTIONS = (
    BlockOptions(),
    *(BlockOptions(format=each) for each in (Q8, SOURCE, Q4)),
)
STRUCTURE = llama(tied=False).with_ends()
BLOCK_OPTIONS = [OPTIONS] * len(STRUCTURE.components)
SHARES = {"stored": 1.0, "Q8_0": 0.5, "Q4_0": 0.25}
LLAMA_CPP = ServingRuntime(name="llama.cpp", version="1", threads=1, dtype="bfloat16")


def formats_of(case: StackCase) -> tuple[str, str]:
    return case.options.format.name, case.ends.name


def test_they_are_timed_at_full_width_where_a_runtime_computes_with_them() -> None:
    (kind,) = list_cases(STRUCTURE, BLOCK_OPTIONS, bare_layers=False, runtime="llama.cpp")
    in_formats = [case for case in kind.widths if case.options.format in (Q8, Q4)]
    assert [case.kept for case in in_formats] == [(2, 0), (2, 0), (0, 48), (0, 48)]
    assert {formats_of(case) for case in in_formats} == {("Q8_0", "stored"), ("Q4_0", "stored")}
    assert [formats_of(case) for case in kind.ends] == [("stored", "Q8_0"), ("stored", "Q4_0")]
    assert SOURCE not in {case.options.format for case in kind.cases}
    (in_torch,) = list_cases(STRUCTURE, BLOCK_OPTIONS, bare_layers=True, runtime="torch")
    assert {formats_of(case) for case in in_torch.cases} == {("stored", "stored")}


class Timer:
    """Takes 10 ms outside the layers, a head of fewer bits less; 4 for an attention of two groups
    and 8 for an MLP, times a share by number format."""

    runtime, workload, bare_layers = LLAMA_CPP, WORKLOAD, False

    def time_dense(self) -> Times:
        return np.full(2, 10.0 + 3 * 12)

    def time(self, case: StackCase) -> Times:
        heads, channels = case.kept
        parts = (4 * heads / 2 + 8 * channels / 48) * SHARES[case.options.format.name]
        outside = 4 + 6 * SHARES[case.ends.name]
        return np.full(2, outside + len(case.layers) * parts)


def test_what_is_measured_is_predicted() -> None:
    benchmark = LayerBenchmark(STRUCTURE, Timer(), BLOCK_OPTIONS)
    benchmark.turn()
    table = benchmark.table()
    assert table.setting == Setting.of(STRUCTURE, WORKLOAD, BLOCK_OPTIONS, LLAMA_CPP)
    assert table.setting.formats == "Q8_0, Q4_0"
    (kind,) = table.kinds
    assert kind.part("mlp").in_formats["Q8_0"].decode_ms == pytest.approx(4)
    assert table.rest_in["Q4_0"].decode_ms == pytest.approx(4 + 6 / 4)
    counts, tables = (
        unit_counts(STRUCTURE.components),
        ConfigurationTables.of(STRUCTURE.components, BLOCK_OPTIONS),
    )
    chosen = np.array(
        [
            [0, 0, 0, 0, 0, 0, 0, 0],
            [1, 3, 0, 0, 0, 0, 0, 1],  # an attention, an MLP and the head
            [0, 0, 0, 2, 0, 0, 3, 0],  # what came from a file, and an embedding that is looked up
        ]
    )
    configurations = tables.index(np.tile(counts, (3, 1)), chosen)
    found = predict(STRUCTURE, BLOCK_OPTIONS, table, configurations)
    assert [each.decode_ms for each in found] == pytest.approx(
        [46, 46 - 4 * 0.5 - 8 * 0.75 - 6 * 0.5, 46 - 8 * 0.5]
    )


def test_fewer_bits_are_never_predicted_to_take_longer() -> None:
    table = by_hand(STRUCTURE)
    kind = table.kinds[0]
    mlp = kind.part("mlp")
    assert isinstance(mlp, Curve)
    slow = {"Q8_0": mlp.latencies[0], "Q4_0": both(10**6)}
    parts = {
        "attention": kind.part("attention"),
        "mlp": mlp.model_copy(update={"in_formats": slow}),
    }
    table = table.model_copy(update={"kinds": (type(kind).of(kind.layers, kind.call, parts),)})
    tables = ConfigurationTables.of(STRUCTURE.components, BLOCK_OPTIONS)
    counts = np.tile(unit_counts(STRUCTURE.components), (4, 1))
    chosen = np.zeros_like(counts)
    chosen[:, 1] = range(4)
    found = predict(STRUCTURE, BLOCK_OPTIONS, table, tables.index(counts, chosen))
    times = [each.decode_ms for each in found]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[1]
