"""A latency table: what it predicts, what it holds for, and how it is measured."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from evaluators.costs.cost_model import CostModel
from evaluators.costs.latency import predict
from evaluators.latency import layer_benchmark as stacks
from evaluators.latency.latency_setting import Device, ServingRuntime, Setting, layer_kinds
from evaluators.latency.latency_table import Curve, LatencyTable
from evaluators.latency.layer_benchmark import measure_table
from evaluators.latency.measure import time_request
from evaluators.latency.stack_cases import StackCase, list_cases, timed_counts
from evaluators.latency.stack_timer import Times, TorchStackTimer
from evaluators.latency.workload import Workload
from search_spaces.errors import LatencyError
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.structure.model import ModelStructure
from tests.evaluators.latency.tables import WORKLOAD, both, by_hand
from tests.models import tiny
from tests.models.cut_models import pruned
from tests.models.families import FAMILIES
from tests.progress import RecordedProgress

if TYPE_CHECKING:
    from search_spaces.structure.components import ComponentKind


def plain(structure: ModelStructure) -> list[tuple[BlockOptions, ...]]:
    """All components have the dense option only."""
    return [combined_options()] * len(structure.components)


def costs_by_hand(structure: ModelStructure) -> CostModel:
    return CostModel(structure, stored=StoredFormat(dtype=torch.float32), context=1).timed(
        by_hand(structure)
    )


@pytest.mark.parametrize(
    ("kept", "milliseconds"),
    [
        ([2, 48, 2, 48, 2, 48], 47.0),
        ([0, 0, 0, 0, 1, 0], 5 + 1 + 2),
        ([1, 12, 0, 24, 0, 0], 5 + (1 + 2 + 4) + (1 + 6)),
        ([1, 18, 0, 36, 2, 0], 5 + (1 + 2 + 5) + (1 + 8) + (1 + 3)),
        ([1, 1, 1, 5, 1, 0], 5 + 2 * (1 + 2 + 4) + (1 + 2)),
    ],
    ids=["dense", "little", "measured widths", "between them", "below them"],
)
def test_the_parts_add_up(kept: list[int], milliseconds: float) -> None:
    structure = tiny.llama()
    counts = np.array([kept])
    (found,) = predict(structure, plain(structure), by_hand(structure), counts)
    assert found.prefill_ms == pytest.approx(milliseconds)
    assert found.decode_ms == pytest.approx(milliseconds / 10)
    costs = costs_by_hand(structure).costs(counts)
    request = milliseconds * (1 + 3 / 10)
    assert costs["latency"] == pytest.approx([request])
    assert costs["throughput"] == pytest.approx([2 * 3 / (request / 1000)])


def test_throughput_counts_what_is_read_where_nothing_is_written() -> None:
    workload = Workload(batch_size=2, prompt_tokens=12, new_tokens=0)
    assert workload.request_ms(both(7)) == 7
    assert workload.throughput(np.array([7.0])) == pytest.approx([24 / 0.007])


def test_one_factor_makes_the_parts_add_up_to_the_dense_model() -> None:
    structure = tiny.llama()
    table = by_hand(structure).model_copy(update={"dense": both(5 + 2 * 42)})
    counts = np.array([[2, 48, 2, 48, 2, 48], [1, 0, 0, 0, 0, 0]])
    dense, small = predict(structure, plain(structure), table, counts)
    assert dense.prefill_ms == pytest.approx(89)
    assert small.prefill_ms == pytest.approx(5 + 2 * (1 + 2))


def test_exact_costs_stay_as_they_are() -> None:
    structure = tiny.llama()
    plain = CostModel(structure, stored=StoredFormat(dtype=torch.float32), context=1)
    assert set(costs_by_hand(structure).dense()) == {*plain.dense(), "latency", "throughput"}
    assert "latency" not in plain.dense()


# ---- what a table holds for


def test_a_table_reads_back_what_it_writes(tmp_path: Path) -> None:
    table = by_hand(tiny.llama())
    path = tmp_path / "latency.json"
    path.write_text(table.to_json())
    assert LatencyTable.load(path) == table


@pytest.mark.parametrize("content", [None, "", "{}", '{"version": 1}'])
def test_what_is_no_table_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "latency.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(LatencyError, match=r"latency\.json` must be a latency table of version 3"):
        LatencyTable.load(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"prefill_ms": 5.0', '"prefill_ms": NaN'),
        ('"prefill_ms": 5.0', '"prefill_ms": 1e999'),
        ('"prefill_ms": 5.0', '"prefill_ms": -5.0'),
        ('"decode_ms": 1.1', '"decode_ms": "fast"'),
        ('"counts": [', '"counts": [0,'),
        ('"counts": [', '"counts": [9999,'),
    ],
)
def test_a_table_with_numbers_that_nobody_measured_is_refused(
    old: str, new: str, tmp_path: Path
) -> None:
    path = tmp_path / "latency.json"
    text = by_hand(tiny.llama()).to_json()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(LatencyError, match="is missing or damaged; restore it from a copy"):
        LatencyTable.load(path)


XEONS = [f"Intel(R) Xeon(R) Platinum 8370C CPU @ {clock}GHz" for clock in ("2.80", "3.50")]
PATH = Path("/home/somebody/experiments/pruning/2026-11-29/runs/latency.json")
DEVICE = Device(name=XEONS[0], core_count=64, platform="Linux")
RUNTIME = ServingRuntime(name="torch", version="2.13.0+cpu", threads=1, dtype="float32")


def of_xeon() -> LatencyTable:
    table = by_hand(tiny.llama())
    setting = table.setting.model_copy(update={"device": DEVICE, "runtime": RUNTIME})
    return table.model_copy(update={"setting": setting})


def refusal(table: LatencyTable, update: dict[str, object]) -> str:
    with pytest.raises(LatencyError) as caught:
        table.check(PATH, table.setting.model_copy(update=update))
    assert len(str(caught.value)) <= 300
    return str(caught.value)


@pytest.mark.parametrize(
    ("update", "named"),
    [
        ({"device": DEVICE.model_copy(update={"name": XEONS[1]})}, ("device", *XEONS)),
        (
            {"device": DEVICE.model_copy(update={"core_count": 8})},
            ("number of cores", "64", "8"),
        ),
        (
            {"device": DEVICE.model_copy(update={"platform": "Darwin"})},
            ("platform", "Linux", "Darwin"),
        ),
        (
            {"runtime": RUNTIME.model_copy(update={"threads": 2})},
            ("number of threads", "1", "2"),
        ),
        (
            {"runtime": RUNTIME.model_copy(update={"name": "llama.cpp", "version": "7"})},
            ("runtime", "torch 2.13.0+cpu", "llama.cpp 7"),
        ),
    ],
)
def test_another_place_is_refused_and_what_differs_named(
    update: dict[str, object], named: tuple[str, str, str]
) -> None:
    table = of_xeon()
    table.check(PATH, table.setting)
    name, there, here = named
    said = refusal(table, update)
    assert "holds only where it was measured" in said
    assert f"the {name} is `{there}`, here `{here}`; work there" in said


@pytest.mark.parametrize(
    ("update", "named"),
    [
        (
            {"runtime": RUNTIME.model_copy(update={"dtype": "bfloat16"})},
            ("dtype", "float32", "bfloat16"),
        ),
        (
            {"runtime": RUNTIME.model_copy(update={"attention": "eager"})},
            ("attention", "its only one", "eager"),
        ),
        ({"workload": Workload()}, ("workload", str(WORKLOAD), str(Workload()))),
        (
            {"thinned": "(1, 2) of (8, 16)"},
            ("experts", "as in the dense model", "(1, 2) of (8, 16)"),
        ),
    ],
)
def test_another_workload_or_dtype_is_refused_and_what_differs_named(
    update: dict[str, object], named: tuple[str, str, str]
) -> None:
    name, there, here = named
    said = refusal(of_xeon(), update)
    assert "only for the model, dtype and workload" in said
    assert f"the {name} is `{there}`, here `{here}`; search into another --out" in said


def test_another_model_is_refused() -> None:
    assert "the model is `" in refusal(of_xeon(), {"shapes": "0"})


def test_a_setting_that_differs_in_anything_is_refused() -> None:
    table = of_xeon()
    for part, fields in table.setting.model_dump().items():
        for name, value in fields.items() if isinstance(fields, dict) else [(part, fields)]:
            other = "llama.cpp" if value == "torch" else f"{value or ''}1"
            changed = {name: other} if part == name else {part: {**fields, name: other}}
            refusal(table, Setting.model_validate(table.setting.model_dump() | changed).__dict__)


def test_models_of_one_shape_share_a_table_and_others_do_not() -> None:
    first, second = (Setting.of(tiny.llama(), WORKLOAD) for _ in range(2))
    assert first.digest == second.digest
    assert Setting.of(tiny.llama(layers=2), WORKLOAD).digest != first.digest
    assert Setting.of(tiny.llama(), Workload()).digest != first.digest


# ---- measuring


def sliding() -> ModelStructure:
    """Gemma 3: layers 0, 1 and 3 look back on a window, layer 2 on all."""
    kinds = ["sliding_attention"] * 2 + ["full_attention", "sliding_attention"]
    return FAMILIES["gemma3"].structure(
        num_hidden_layers=4, head_dim=8, sliding_window=8, layer_types=kinds
    )


@pytest.mark.parametrize("family", [tiny.llama, tiny.opt, tiny.phi, sliding])
def test_by_a_clock_that_counts_operations_the_prediction_is_exact(
    family: Callable[[], ModelStructure], counter: FlopCounterMode
) -> None:
    structure = family()
    with counter:
        table = measure_table(structure, TorchStackTimer(structure, WORKLOAD))
    dense = tiny.dense_counts(structure)
    some = dense.copy()
    some[:4] = 1, 0, 0, dense[3] // 3  # a group, no MLP; no attention, a third of the channels
    for counts in (dense, some):
        (found,) = predict(structure, plain(structure), table, counts[None])
        model = structure.backbone.model if counts is dense else pruned(structure, counts)
        assert isinstance(model, PreTrainedModel)
        with counter:
            measured = time_request(model, WORKLOAD)
        assert found.prefill_ms == pytest.approx(measured.prefill_ms, rel=1e-9)
        assert found.decode_ms == pytest.approx(measured.decode_ms, rel=1e-9)


def test_real_times_are_in_order_and_leave_the_model_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stacks, "TURNS", 2)
    structure = tiny.llama()
    model = structure.backbone.model
    before = copy.deepcopy(model.state_dict())
    progress = RecordedProgress()
    table = measure_table(structure, TorchStackTimer(structure, WORKLOAD), progress)
    assert {name: value.tolist() for name, value in model.state_dict().items()} == {
        name: value.tolist() for name, value in before.items()
    }
    assert structure.backbone.decoder.layers is structure.backbone.stack.blocks
    cases = 2 + 2 + len(timed_counts(48))  # half and all bare layers, two groups, the MLP's widths
    assert progress.counts == [(done, 2 * cases) for done in range(1, 2 * cases + 1)]
    assert table.dense.prefill_ms > table.rest.prefill_ms >= 0
    (kind,) = table.kinds
    assert kind.layers == (0, 1, 2)
    for curve, width in ((kind.part("attention"), 2), (kind.part("mlp"), 48)):
        assert curve.counts == tuple(timed_counts(width))
        for phase in ("prefill_ms", "decode_ms"):
            times = [getattr(taken, phase) for taken in curve.latencies]
            assert times == sorted(times)
            assert times[0] >= 0
    counts = tiny.random_counts(structure, 20, np.random.default_rng(0))
    assert all(
        taken.prefill_ms > 0 for taken in predict(structure, plain(structure), table, counts)
    )


def test_a_workload_that_writes_nothing_has_no_decode_step() -> None:
    structure = tiny.llama(layers=1)
    workload = Workload(prompt_tokens=4, new_tokens=0)
    table = measure_table(structure, TorchStackTimer(structure, workload))
    assert table.dense.decode_ms == 0
    assert table.dense.prefill_ms > 0


def test_layers_differ_by_what_they_look_back_on() -> None:
    assert layer_kinds(sliding()) == [(0, 1, 3), (2,)]
    assert layer_kinds(tiny.llama()) == [(0, 1, 2)]


@pytest.mark.parametrize(
    ("unit_count", "counts"),
    [
        (1, [1]),
        (6, [1, 2, 3, 4, 5, 6]),
        (12, [1, 3, 6, 9, 12]),
        (48, [3, 12, 24, 36, 48]),
        (1536, [96, 384, 768, 1152, 1536]),
        (1000, [64, 256, 496, 752, 1000]),
    ],
)
def test_widths_that_are_timed(unit_count: int, counts: list[int]) -> None:
    assert timed_counts(unit_count) == counts


class TimerWithKnownTruth:
    """Takes 10 ms outside the layers, 2 for each that is run, 3 for each attention, 5 each MLP."""

    workload = Workload()

    def __init__(self, structure: ModelStructure, *, bare_layers: bool) -> None:
        self.bare_layers = bare_layers
        self.runtime = ServingRuntime(name="torch", version="0", threads=1, dtype="float32")
        self._layer_count = len(structure.layers)
        self.timed: list[StackCase] = []

    def time_dense(self) -> Times:
        return self._times(self._layer_count * (3.0 * 2 + 5.0 * 48))

    def time(self, case: StackCase) -> Times:
        self.timed.append(case)
        attention, mlp = case.kept
        assert any(case.kept) or self.bare_layers
        parts = 3.0 * attention + 5.0 * mlp
        return self._times(len(case.layers) * parts, layers=len(case.layers))

    def _times(self, parts: float, layers: int | None = None) -> Times:
        call = 2.0 if self.bare_layers else 0.0
        count = self._layer_count if layers is None else layers
        return np.array([10 + count * call + parts, 1.0])


@pytest.mark.parametrize("bare_layers", [True, False])
def test_what_a_timer_knows_is_found(*, bare_layers: bool) -> None:
    structure = tiny.llama()  # three layers of 2 groups and 48 channels
    timer = TimerWithKnownTruth(structure, bare_layers=bare_layers)
    table = measure_table(structure, timer)
    call = 2.0 if bare_layers else 0.0
    assert table.rest.prefill_ms == pytest.approx(10)
    (kind,) = table.kinds
    assert kind.call.prefill_ms == pytest.approx(call)
    for name, each in (("attention", 3.0), ("mlp", 5.0)):
        curve = kind.part(cast("ComponentKind", name))
        assert isinstance(curve, Curve)
        for count, latency in zip(curve.counts, curve.latencies, strict=True):
            assert latency.prefill_ms == pytest.approx(call + each * count)
    assert any(not any(case.kept) for case in timer.timed) == bare_layers
    counts = np.array([[1, 24, 0, 48, 0, 0]])
    (found,) = predict(structure, plain(structure), table, counts)
    assert found.prefill_ms == pytest.approx(10 + 2 * call + 3 * 1 + 5 * (24 + 48))


def test_a_single_layer_that_is_never_left_out_counts_as_all_else() -> None:
    structure = tiny.llama(layers=1)
    table = measure_table(structure, TimerWithKnownTruth(structure, bare_layers=False))
    assert table.rest.prefill_ms == pytest.approx(10 + 5 * timed_counts(48)[0])
    dense, _ = predict(structure, plain(structure), table, np.array([[2, 48], [0, 0]]))
    assert dense.prefill_ms == pytest.approx(table.dense.prefill_ms)


def test_stacks_of_a_kind_are_a_long_and_a_short_one_and_one_of_each_width() -> None:
    structure = tiny.llama()
    options = plain(structure)
    (bare,) = list_cases(structure, options, bare_layers=True)
    assert (bare.long.kept, bare.long.layers) == ((0, 0), (0, 1, 2))
    assert (bare.short.kept, bare.short.layers) == ((0, 0), (0,))
    (thin,) = list_cases(structure, options, bare_layers=False)
    assert (thin.long.kept, thin.long.layers) == ((0, timed_counts(48)[0]), (0, 1, 2))
    assert thin.short.layers == (0,)
    assert len(thin.cases) == len(set(thin.cases)) == len(bare.cases) - 1
