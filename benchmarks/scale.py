"""A generation scored by two worker processes, on Ray and by one, and a search by two and one."""

import hashlib
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.simulated_generations import (
    MANY,
    PLANS_EACH,
    configurations_of,
    simulated_generations,
)
from benchmarks.smollm2 import SEED, Text, offspring, write_topics
from evaluators.backends.scoring_backend import ScoringBackend
from evaluators.scoring.batches import Fidelity
from planner.cli.commands.demo_command import demo_model
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from planner.preparation.prepared_model import PreparedModel
from planner.run import search
from planner.runs.records import Evaluation
from planner.settings.automatic_workers import automatic_workers
from planner.settings.search import SearchSettings
from planner.settings.worker_devices import WorkerDevices
from planner.workers import backends, scoring_process
from planner.workers.backends import LocalBackends, scoring_backends
from planner.workers.on_ray.ray_actor import ScoringActor
from planner.workers.scored_run import ScoredText
from search_spaces.progress import NoProgress
from search_spaces.space.space import Genome

WORKERS = 2
GENERATION = 64
ON_RAY = f"{WORKERS} actors on Ray"
PROGRAMS = (scoring_process.__name__, f"ray::{ScoringActor.__name__}")
"""In the titles of workers' processes."""
MEGABYTE = 1e6

NOTES = f"""
**A generation.** {GENERATION} plans of SmolLM2-135M-Instruct from 0.5 to 0.9 of its parameters,
children of four plans, are scored by this process with one thread of torch, and by {WORKERS}
workers with one thread each: processes, and actors on Ray where that is installed. All are warm:
models are loaded, and the dense model's side of the text is made; *start* is how long the workers
took to be ready, Ray's own start among it. *private* is what a process holds that it shares with
none (unique set size): this one before it maps the sorted weights, the workers, in the mean, after
the generation; *idle*, the share of their time in which workers waited for others, warm-up
included. *digest* is of all scores to the last bit, the same for all of them and in each run.

**A search.** The whole of `planner search`, by one process with {WORKERS} threads of torch and by
{WORKERS} workers with one each; *search* is its time as its run records it, *in all* with loading,
workers' start and re-scoring, *idle* as above: of races' rungs, and of gradients, for which
workers wait. The faster one is to be what `--workers auto` stands for.

**On a simulated clock.** The same pool and the same cuts, with workers whose tasks take simulated
time: the seconds of component runs and of readings as they were measured here, one by one, in
*measured* plans of the generation, drawn at random for each run. Populations are a pass over all
sites, each at each of its levels in the dense model; {PLANS_EACH} plans for each worker that are
children of four plans; and as many drawn at random. *by the cut* is the share of workers'
time that is of use if all takes as long as was foreseen, *efficiency* that which is in the end,
with what workers take over from each other, both means of several runs; messages take no time.
One worker that runs each prefix once is 1.

**Hidden states.** *run anew* is the work of prefixes that more than one part runs, as a share of
one worker's work: all that could be saved by passing on hidden states at a cut, if nobody waited
for them, and none of it where a worker keeps the states of likely parents from one generation to
the next. The last table holds one state passed on in shared memory against its prefix run anew.
"""

Timed = tuple[float, str]
"""Seconds, and a digest of the scores to the last bit."""


def main() -> int:
    """Measure, report, and return the exit status."""
    repeats, plans, measured = (1, 8, 8) if is_quick() else (3, 64, 32)
    text = Text(windows=2, tokens=32) if is_quick() else Text(windows=12, tokens=128)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        options = _options(folder, text)
        settings = SearchSettings.checked(**options, workers=WORKERS)
        prepared = prepare(open_model(settings, NoProgress()), settings, folder, NoProgress())
        sides = _generation(prepared, settings, repeats)
        with _threads(1):
            simulated, state = simulated_generations(
                prepared, _genomes(prepared)[:: GENERATION // measured]
            )
        rows = [*sides, *_searches(folder, options, plans), *simulated, state]
    goals = _goals(sides)
    for count, least in MANY.items():
        found = [float(row["efficiency"]) for row in simulated if row["workers"] == count]
        figure = f"efficiency of {count} workers on a simulated clock"
        goals.append(
            Goal(figure=figure, value=min(found), limit=least, at_least=True, percent=True)
        )
    facts = (
        f"Text: Python's own help topics, {text.windows} windows of {text.tokens} tokens; "
        f"{repeats} repeat(s), in turns; searches take the tokens of {plans} plans on all windows."
    )
    return finish("scale", rows, goals, f"{NOTES.strip()}\n\n{facts}", seed=SEED)


def _options(folder: Path, text: Text) -> dict[str, Any]:
    return {
        "model": str(demo_model()),
        "data": str(write_topics(folder)),
        "seed": SEED,
        "search_windows": text.windows,
        "calibration_windows": 32,
        "fresh_windows": 2,
        "holdout_windows": 2,
        "window_tokens": text.tokens,
        "device": "cpu",
        "compensate": "none",
    }


def _goals(sides: Sequence[Row]) -> list[Goal]:
    """Return what must hold of the sides; words for seconds: there was no such side."""
    one, many, on_ray = (side["s"] for side in sides)
    digests = {each for side in sides for each in str(side["digest"]).split()}
    goals = [
        Goal(figure="speed-up", value=float(one) / float(many), limit=1.8, at_least=True),
        Goal(figure="different scores", value=len(digests), limit=1, at_least=False),
    ]
    if not isinstance(on_ray, str):
        overhead = on_ray / float(many) - 1
        goals.append(
            Goal(figure="Ray's overhead", value=overhead, limit=0.1, at_least=False, percent=True)
        )
    return goals


def _generation(prepared: PreparedModel, settings: SearchSettings, repeats: int) -> list[Row]:
    configurations = configurations_of(prepared, _genomes(prepared))
    text = ScoredText(split="search", fidelity=Fidelity(state_bytes=0))
    private = [_private(psutil.Process())]
    kinds = {f"{WORKERS} processes": settings}
    if has_ray := find_spec("ray") is not None:
        devices = WorkerDevices(count=WORKERS, kind="cpu", cores=1)
        update = {"workers": "ray", "worker_devices": devices}
        kinds[ON_RAY] = settings.model_copy(update=update)
    sides: dict[str, ScoringBackend] = {"this process": LocalBackends(prepared).on(text)}
    starting, pools = [0.0], []
    with _threads(WORKERS), ExitStack() as stack:
        for name, of_kind in kinds.items():
            started = time.monotonic()
            pool = stack.enter_context(scoring_backends(of_kind, prepared))
            pools.append(pool)
            sides[name] = pool.on(text)
            while not pool.doing.startswith(f"{WORKERS} of {WORKERS} workers"):
                list(sides[name].score(configurations[:1]))
            starting.append(time.monotonic() - started)
        found = _in_turns(sides, configurations, repeats)
        private += [_mean_private(program) for program in PROGRAMS]
        idle = [0.0, *(100 * pool.idle_share for pool in pools)]
    rows = list(map(_row, sides, found, starting, private, idle))
    missing = dict.fromkeys(rows[0], "") | {"scored by": ON_RAY, "s": "Ray is not installed"}
    return rows if has_ray else [*rows, missing]


def _in_turns(
    sides: Mapping[str, ScoringBackend], configurations: NDArray[np.int_], repeats: int
) -> list[list[Timed]]:
    """Let each side score a population several times, with one thread here."""
    found: dict[str, list[Timed]] = {side: [] for side in sides}
    with _threads(1):
        for backend in sides.values():
            list(backend.score(configurations[::4]))  # warm-up
        for turn in range(repeats):
            # whoever begins has the warmer or the cooler processor
            for side in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
                found[side].append(_timed(sides[side], configurations))
    return list(found.values())


def _genomes(prepared: PreparedModel) -> NDArray[np.int_]:
    genomes = np.concatenate([offspring(prepared, SEED), offspring(prepared, SEED + 2)])
    assert len(genomes) == GENERATION
    return genomes


def _row(name: str, found: list[Timed], starting: float, private: float, idle: float) -> Row:
    return {
        "scored by": name,
        "s": statistics.median(seconds for seconds, _ in found),
        "runs": ", ".join(f"{seconds:.3g}" for seconds, _ in found),
        "start, s": starting,
        "private, MB": private / MEGABYTE,
        "idle, %": idle,
        "digest": " ".join(sorted({digest for _, digest in found})),
    }


def _digest(scores: Mapping[int, bytes]) -> str:
    return hashlib.sha256(b"".join(scores[m] for m in sorted(scores))).hexdigest()[:8]


def _timed(backend: ScoringBackend, configurations: NDArray[np.int_]) -> Timed:
    started = time.monotonic()
    scores = {m: score.by_window["kl"].tobytes() for m, score in backend.score(configurations)}
    return time.monotonic() - started, _digest(scores)


def _searches(folder: Path, options: dict[str, Any], plans: int) -> list[Row]:
    tokens = plans * options["search_windows"] * options["window_tokens"]
    rows: list[Row] = []
    for workers in (1, WORKERS):
        started = time.monotonic()
        with _threads(WORKERS), _idle() as idle:
            run = search(
                out=folder / f"search-{workers}", **options, tokens=tokens, workers=workers
            )
        spent = run.metadata.spent
        assert spent is not None, "the search has ended"
        rows.append(
            {
                "workers": f"{workers} (auto)" if workers == automatic_workers() else workers,
                "threads each": WORKERS // workers,
                "plans": spent.plans,
                "search, s": spent.seconds,
                "in all, s": time.monotonic() - started,
                "idle, %": idle[-1] if idle else 0.0,
                "digest": _digest(
                    {
                        number: plan.score.by_window["kl"].tobytes()
                        for number, plan in enumerate(sorted(run.landed(), key=_genome_of))
                    }
                ),
            }
        )
    return rows


@contextmanager
def _idle() -> Iterator[list[float]]:
    """Provide the shares of time, in percent, in which workers of searches within waited."""
    found: list[float] = []

    def note(record: logging.LogRecord) -> bool:
        if record.msg.startswith("workers waited") and isinstance(record.args, tuple):
            found.append(float(str(record.args[0])))
        return True

    log, level = backends.logger, backends.logger.level
    log.setLevel(logging.INFO)
    log.addFilter(note)
    try:
        yield found
    finally:
        log.removeFilter(note)
        log.setLevel(level)


def _genome_of(plan: Evaluation) -> Genome:
    return plan.genome


def _private(process: psutil.Process) -> float:
    return float(process.memory_full_info().uss)


def _mean_private(title: str) -> float:
    """Return what processes below this one hold in the mean, those with a title."""
    below = psutil.Process().children(recursive=True)
    held = [_private(each) for each in below if title in " ".join(each.cmdline())]
    return statistics.mean(held or [0.0])


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    sys.exit(main())
