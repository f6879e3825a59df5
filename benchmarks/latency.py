"""Predicted against measured latency of exported plans of SmolLM2-135M."""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.smollm2 import SEED, Text, open_prepared
from evaluators.costs.latency import predict
from evaluators.latency.layer_benchmark import measure_table
from evaluators.latency.measure import Latency, Workload, measure_latencies
from evaluators.runtime.allocator import release_pages
from planner.preparation.prepared_model import PreparedModel
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import uneven_tilt
from planner.targets.hf.exporter import load_export
from planner.targets.hf.model_folder import cut_model, write_model

CHEAPEST, DEAREST = 0.45, 0.95
WORKLOAD = Workload()
PHASES = ("prefill", "decode")

NOTES = f"""
A latency table of SmolLM2-135M-Instruct is measured first ({WORKLOAD}), as a
search under a latency budget does. Then plans between {CHEAPEST} and {DEAREST} of the dense
model's latency are exported to a folder, reloaded as a user would, and run end to end on the same
workload, in turns with the dense model; medians of the repeats.

- uniform: the same share of every component.
- uneven: shares that differ at random from component to component.
- drops: half of what goes is cut unevenly, the other half in whole components, picked at random.

*prefill* and *decode* are milliseconds, for the prompt and for each new token. *share error* is
predicted over measured, less one, both as shares of the dense model's: the one as the table has
it, the other as measured in the same turns. *ms error* is the same of milliseconds; it also holds
what the machine itself changed its speed by since the table was measured. The goals are of errors
of milliseconds, those of prefill and decode pooled; the rank correlation is Spearman's, the lower
of the two phases.
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One plan: what was promised of it and what was measured."""

    kind: str
    promised: Latency
    taken: Latency
    dense_promised: Latency
    dense_taken: Latency

    def values(self, phase: str) -> tuple[float, float]:
        """Return predicted and measured milliseconds."""
        return getattr(self.promised, f"{phase}_ms"), getattr(self.taken, f"{phase}_ms")

    def shares(self, phase: str) -> tuple[float, float]:
        """Return the predicted and the measured share of the dense model's."""
        dense = self.dense_promised, self.dense_taken
        predicted, measured = (
            milliseconds / getattr(whole, f"{phase}_ms")
            for milliseconds, whole in zip(self.values(phase), dense, strict=True)
        )
        return predicted, measured

    def row(self) -> Row:
        """Return its line of the table."""
        line: dict[str, str | float] = {"plan": self.kind}
        for phase in PHASES:
            (promised, taken), shares = self.values(phase), self.shares(phase)
            line |= {
                f"{phase}, predicted": promised,
                "measured" if phase == "prefill" else "measured ": taken,
                f"{phase} share": shares[1],
                f"{phase} share error": shares[0] / shares[1] - 1,
                f"{phase} ms error": promised / taken - 1,
            }
        whole = [WORKLOAD.request_ms(latency) for latency in (self.promised, self.taken)]
        dense = [WORKLOAD.request_ms(one) for one in (self.dense_promised, self.dense_taken)]
        return line | {
            "request share": whole[1] / dense[1],
            "request share error": whole[0] / dense[0] / (whole[1] / dense[1]) - 1,
            "request ms error": whole[0] / whole[1] - 1,
        }


def main() -> int:
    """Measure, report, and return the exit status."""
    count, repeats = (12, 2) if is_quick() else (18, 5)
    prepared = open_prepared(Text(windows=2, tokens=64))
    table = measure_table(prepared.dense.structure, WORKLOAD)
    prepared = replace(
        prepared, dense=replace(prepared.dense, costs=prepared.dense.costs.timed(table))
    )
    floor = prepared.smallest_costs()["latency"] / prepared.dense.costs.dense()["latency"]
    plans = list(
        spread(prepared.make_domain({"latency": None}, floor), count, np.random.default_rng(SEED))
    )
    cases = []
    for kind, genome in plans:
        cases.append(measure(prepared, kind, genome, repeats))
        print(*cases[-1].row().values(), flush=True)
    errors = [
        predicted / measured - 1
        for case in cases
        for predicted, measured in (case.values(phase) for phase in PHASES)
    ]
    goals = [
        Goal(
            figure="median error",
            value=statistics.median(map(abs, errors)),
            limit=0.05,
            at_least=False,
            percent=True,
        ),
        Goal(
            figure="largest error",
            value=max(map(abs, errors)),
            limit=0.12,
            at_least=False,
            percent=True,
        ),
        Goal(
            figure="rank correlation",
            value=min(rank_correlation([c.values(phase) for c in cases]) for phase in PHASES),
            limit=0.97,
            at_least=True,
        ),
    ]
    notes = (
        f"{NOTES.strip()}\n\n{repeats} repeats; {prepared.dense.loaded.model.dtype} on the CPU."
    )
    return finish("latency", [case.row() for case in cases], goals, notes, seed=SEED)


def spread(
    domain: Domain, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.int_]]]:
    """Yield plans of three kinds in turn, evenly spread over the front."""
    for index, share in enumerate(np.linspace(CHEAPEST, DEAREST, count)):
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


def measure(prepared: PreparedModel, kind: str, genome: NDArray[np.int_], repeats: int) -> Case:
    """Export one plan and run it next to the dense model."""
    structure, model = prepared.dense.structure, prepared.dense.loaded.model
    table = prepared.dense.costs.table
    assert table is not None
    genome = prepared.space.repaired(genome[None])[0]
    counts = prepared.space.configurations(np.stack([prepared.space.top_levels, genome]))
    dense_promised, promised = predict(
        structure, prepared.dense.costs.block_options, table, counts
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(
            folder, cut_model(structure, prepared.space.plan(genome)), prepared.dense.loaded
        )
        exported: Any = load_export(folder)
    exported.to(device=model.device, dtype=model.dtype)
    release_pages()
    taken = measure_latencies({"dense": model, "pruned": exported}, WORKLOAD, repeats=repeats)
    return Case(
        kind=kind,
        promised=promised,
        taken=taken["pruned"],
        dense_promised=dense_promised,
        dense_taken=taken["dense"],
    )


def rank_correlation(pairs: list[tuple[float, float]]) -> float:
    """Return Spearman's correlation of predicted and measured."""
    predicted, measured = zip(*pairs, strict=True)
    return float(spearmanr(predicted, measured).statistic)


if __name__ == "__main__":
    sys.exit(main())
