"""Predicted against measured latency of exported plans of SmolLM2-135M, in each runtime."""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.smollm2 import SEED, Text, open_prepared, param_domain
from evaluators.costs.latency import predict
from evaluators.latency.layer_benchmark import LayerBenchmark
from evaluators.latency.workload import Latency, Workload
from evaluators.runtime import RuntimeName
from planner.preparation.latency_tables import stack_timer
from planner.preparation.prepared_model import PreparedModel
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import uneven_tilt
from planner.settings.search import SearchSettings
from planner.targets.cut_layers import cut_layers
from planner.targets.served_stacks import serving_choice, time_folder
from planner.targets.target import Target
from planner.targets.target_names import TargetChoice

SMALLEST, LARGEST = 0.5, 0.95
"""Parameters of the plans, as shares of the dense model's."""
PLANS = 12
SERVED, SERVED_SHARE = "0.6x", 0.6
"""A plan whose speed-up is held against what was promised."""
WORKLOAD = Workload()
PHASES = ("prefill_ms", "decode_ms")

NOTES = f"""
In each runtime a latency table of SmolLM2-135M-Instruct is measured ({WORKLOAD}),
as a search under a latency budget does, and {PLANS} plans between {SMALLEST} and {LARGEST} of the
dense model's parameters, as exports: written by the runtime's target, and each served in a process
of its own that has loaded nothing else. Both take turns: a stack of the table, a plan, the next
stack, until all were timed once, and again. Each figure is the median over the turns.

- uniform: the same share of every component.
- uneven: shares that differ at random from component to component.
- drops: half of what goes is cut unevenly, the other half in whole components, picked at random.
- {SERVED}: what the sensitivity prior keeps of {SERVED_SHARE} of the parameters. *speed-up* is the
  dense model's request over this plan's, measured in the same turns; it should be what the
  table promised.
- dense: the dense model served like an export; the table has it as its own whole.

*prefill* and *decode* are milliseconds, for the prompt and for each new token; *error* is
predicted over measured, less one, and *repeated* the same of two measurements: the median of every
other turn over that of the turns between. No table can be better than that. The goals are of
errors of the plans, those of prefill and decode pooled; the rank correlation is Spearman's, the
lower of the two phases.
"""


@dataclass(kw_only=True)
class Case:
    """One plan in one runtime: what was promised of it and what was measured."""

    kind: str
    folder: Path
    configurations: NDArray[np.int_]
    turns: list[Latency] = field(default_factory=list)
    promised: Latency | None = None

    def error(self, phase: str) -> float:
        """Return how far the prediction of a phase was off."""
        return _ms(self.promised, phase) / _ms(self.taken, phase) - 1

    def repeated(self, phase: str) -> float:
        """Return how far one half of the turns is off from the other."""
        halves = (Latency.median(self.turns[first::2]) for first in (0, 1))
        one, other = (_ms(half, phase) for half in halves)
        return one / other - 1

    @property
    def taken(self) -> Latency:
        """What was measured."""
        return Latency.median(self.turns)

    def row(self, runtime: str) -> Row:
        """Return its line of the table."""
        line: dict[str, str | float] = {"runtime": runtime, "plan": self.kind}
        for phase in PHASES:
            name = phase.removesuffix("_ms")
            line |= {
                f"{name} predicted": _ms(self.promised, phase),
                f"{name} measured": _ms(self.taken, phase),
                f"{name} error": self.error(phase),
                f"{name} repeated": self.repeated(phase),
            }
        assert self.promised is not None
        request = WORKLOAD.request_ms(self.promised) / WORKLOAD.request_ms(self.taken) - 1
        return line | {"request error": request}


def _ms(latency: Latency | None, phase: str) -> float:
    assert latency is not None
    return float(getattr(latency, phase))


def main() -> int:
    """Measure, report, and return the exit status."""
    runtimes: tuple[RuntimeName, ...] = get_args(RuntimeName)
    asked = [name for name in runtimes if name in (sys.argv[1:] or runtimes)]
    prepared = open_prepared(Text(windows=2, tokens=64))
    plans = list(spread(param_domain(prepared), PLANS, np.random.default_rng(SEED)))
    rows: list[Row] = []
    goals: list[Goal] = []
    notes = NOTES.strip()
    for runtime in asked:
        before = processor_times()
        described, cases = measure(prepared, runtime, plans, turns=4 if is_quick() else 6)
        stolen = processor_times() - before
        for case in cases:
            rows.append(case.row(runtime))
            print(*rows[-1].values(), flush=True)
        exports = [case for case in cases if case.kind != "dense"]
        goals += [*goals_of(runtime, exports), speed_up_goal(runtime, cases)]
        repeated = [abs(case.repeated(phase)) for case in exports for phase in PHASES]
        notes += (
            f"\n\n{described}: measured twice, a plan differs by "
            f"{statistics.median(repeated):.1%} in the median and {max(repeated):.1%} at most; "
            f"{stolen[1] / stolen[0]:.1%} of the processors' time went to other machines."
        )
    return finish("latency", rows, goals, notes, seed=SEED)


def speed_up_goal(runtime: str, cases: list[Case]) -> Goal:
    """Return how much of the speed-up that was promised of a plan was measured."""
    by_kind = {case.kind: case for case in cases}
    dense, served = by_kind["dense"], by_kind[SERVED]
    assert dense.promised is not None
    assert served.promised is not None
    promised = WORKLOAD.request_ms(dense.promised) / WORKLOAD.request_ms(served.promised)
    measured = WORKLOAD.request_ms(dense.taken) / WORKLOAD.request_ms(served.taken)
    print(f"{runtime}: speed-up {measured:.3f}, promised {promised:.3f}", flush=True)
    return Goal(
        figure=f"{runtime}: speed-up at {SERVED} {measured:.3f} of {promised:.3f} promised,",
        value=measured / promised,
        limit=0.95,
        at_least=True,
        percent=True,
    )


def processor_times() -> NDArray[np.float64]:
    """Return the processors' time so far, and what of it other virtual machines took ``(2,)``."""
    ticks = [float(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return np.array([sum(ticks), ticks[7]])


def spread(
    domain: Domain, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.int_]]]:
    """Yield the plan whose speed-up counts, then three kinds in turn, spread over the front."""
    yield SERVED, domain.by_prior(SERVED_SHARE, np.zeros(len(domain.top_levels)))
    for index, share in enumerate(np.linspace(SMALLEST, LARGEST, count)):
        match index % 3:
            case 0:
                yield "uniform", domain.uniform(float(share))
            case 1:
                yield "uneven", domain.tilted(float(share), uneven_tilt(domain, rng))
            case _:
                yield "drops", with_drops(domain, float(share), rng)


def with_drops(domain: Domain, share: float, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return an uneven plan without some components, ``(sites,)``."""
    genome = domain.tilted((1 + share) / 2, uneven_tilt(domain, rng))
    for site in rng.permutation(len(genome)):
        if domain.cost(genome[None])[0] <= share:
            break
        genome[site] = 0
    return genome


def measure(
    prepared: PreparedModel,
    runtime: RuntimeName,
    plans: list[tuple[str, NDArray[np.int_]]],
    *,
    turns: int,
) -> tuple[str, list[Case]]:
    """Measure the table and the plans in turns; return the runtime in words, and the plans."""
    settings = SearchSettings(model=prepared.dense.loaded.source, runtime=runtime)
    structure, block_options = prepared.dense.structure, prepared.dense.costs.block_options
    with (
        tempfile.TemporaryDirectory() as scratch,
        stack_timer(prepared.dense, settings) as timer,
    ):
        served = {"dtype": timer.runtime.dtype}
        target = (serving_choice(runtime) or TargetChoice(name="hf", options=served)).make()
        cases = list(write_all(prepared, target, plans, Path(scratch)))
        benchmark = LayerBenchmark(structure, timer, block_options)
        threads = timer.runtime.threads
        for _ in range(turns):
            for _, case in zip_longest(benchmark.steps(), cases):
                if case is not None:
                    latency = time_folder(target, case.folder, WORKLOAD, threads=threads)
                    case.turns.append(latency)
        table = benchmark.table()
    configurations = np.stack([case.configurations for case in cases])
    promised = predict(structure, block_options, table, configurations)
    for case, latency in zip(cases, promised, strict=True):
        case.promised = latency
    return str(timer.runtime), cases


def write_all(
    prepared: PreparedModel,
    target: Target,
    plans: list[tuple[str, NDArray[np.int_]]],
    scratch: Path,
) -> Iterator[Case]:
    """Write the dense model and each plan as the target does."""
    dense, space = prepared.dense, prepared.space
    place = scratch / "dense"
    place.mkdir()
    (whole,) = space.configurations(space.top_levels[None])
    folder = target.dense_folder(place, dense.structure, dense.loaded)
    yield Case(kind="dense", folder=folder, configurations=whole)
    for number, (kind, genome) in enumerate(plans):
        repaired = space.repaired(genome[None])
        folder = scratch / str(number)
        folder.mkdir()
        cut = cut_layers(dense.structure, space.plan(repaired[0]))
        target.write(folder, cut, dense.loaded, None)
        (configurations,) = space.configurations(repaired)
        yield Case(kind=kind, folder=folder, configurations=configurations)


def goals_of(runtime: str, cases: list[Case]) -> list[Goal]:
    """Return what a runtime's errors must keep."""
    errors = [abs(case.error(phase)) for case in cases for phase in PHASES]
    limits = {
        "median error": (statistics.median(errors), 0.05),
        "largest error": (max(errors), 0.12),
    }
    ranks = min(
        float(spearmanr(*zip(*pairs, strict=True)).statistic)
        for phase in PHASES
        for pairs in [[(_ms(case.promised, phase), _ms(case.taken, phase)) for case in cases]]
    )
    return [
        Goal(figure=f"{runtime}: {figure}", value=value, limit=limit, at_least=False, percent=True)
        for figure, (value, limit) in limits.items()
    ] + [Goal(figure=f"{runtime}: rank correlation", value=ranks, limit=0.97, at_least=True)]


if __name__ == "__main__":
    torch.set_grad_enabled(mode=False)
    sys.exit(main())
