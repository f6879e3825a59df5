"""Minor page faults a candidate, and the most memory that scoring a generation takes."""

import multiprocessing
import resource
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks import sides
from benchmarks.naive import NaiveScorer
from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.smollm2 import SEED, Text, offspring, open_prepared, parents
from evaluators.runtime.allocator import release_pages
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.racing import rungs_of
from planner.cli.commands.demo_command import demo_model
from planner.preparation.prepared_model import PreparedModel

GENERATION = 32
MEGABYTE = 1e6

NOTES = f"""
A generation of {GENERATION} plans of SmolLM2-135M-Instruct from 0.5 to 0.9 of its parameters,
children of four plans, is scored by our engine in a process of its own, after a quarter of
another to warm up. *faults* are minor page faults a candidate: pages that the kernel must find
and clear because a tensor was freed and made again. *naive* is the published way (`bench-racing`
describes it), {GENERATION // 8} candidates after one to warm up.

*peak* is the most memory that was resident while the generation was scored, interpreter and
libraries included, as the kernel keeps it (`VmHWM`, reset before); *model* is the bytes of the
weights in the dtype that is computed in.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    text = Text(windows=2 if is_quick() else 4, tokens=128)
    runs = 1 if is_quick() else 2  # pages are counted: they hardly differ from run to run
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=score_generation, args=(there, text))
    process.start()
    ours, model_bytes = here.recv()
    process.join()
    naive = naive_faults(text)
    rows: list[Row] = [
        {"scoring": "naive", "faults": naive, "peak, MB": "", "model, MB": model_bytes / MEGABYTE},
        {
            "scoring": "ours",
            "faults": ours["faults"],
            "peak, MB": ours["peak"] / MEGABYTE,
            "model, MB": model_bytes / MEGABYTE,
        },
    ]
    goals = [
        Goal(figure="faults of naive", value=ours["faults"] / naive, limit=1 / 20, at_least=False),
        Goal(
            figure="MB beyond the model",
            value=(ours["peak"] - model_bytes) / MEGABYTE,
            limit=600,
            at_least=False,
        ),
    ]
    beside = sides.compared("memory", text, runs, fresh=True)
    facts = f"Text: Python's own help topics, {text.windows} windows of {text.tokens} tokens."
    pair = f"{sides.NOTES.strip()} {runs} run(s) of each side."
    notes = f"{NOTES.strip()}\n\n{facts}\n\n{pair}"
    return finish("memory", [*rows, *beside], goals, notes, seed=SEED)


def score_generation(pipe: Connection, text: Text) -> None:
    """Score two generations in this process and send what the second took."""
    prepared = open_prepared(text)
    release_pages()  # as a search does before it scores
    engine = Evaluator(
        prepared.sorted_model,
        prepared.calibration.search,
        Fidelity(rungs=rungs_of(text.windows)),
    )
    elders = prepared.space.configurations(parents(prepared))
    first, second = (
        prepared.space.configurations(offspring(prepared, seed)) for seed in (SEED, SEED + 2)
    )
    list(engine.score(elders))
    engine.expect(elders)
    list(engine.score(first[::4]))  # warm-up
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    list(engine.score(second))
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    measured = {"faults": faults / len(second), "peak": float(peak_bytes())}
    pipe.send((measured, model_bytes(prepared)))


def peak_bytes() -> int:
    """Return the most memory that was resident in this process."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in lines if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def model_bytes(prepared: PreparedModel) -> int:
    """Return the bytes of the weights, tied ones once."""
    return sum(weight.nbytes for weight in prepared.dense.structure.backbone.model.parameters())


def naive_faults(text: Text) -> float:
    """Return the minor faults of one candidate scored in the published way."""
    prepared = open_prepared(text)
    counts = prepared.space.configurations(offspring(prepared))
    windows = prepared.calibration.search
    scorer = NaiveScorer(
        str(demo_model()), torch.float32, tuple(prepared.space.orders), windows, batch=len(windows)
    )
    scorer.score(counts[0])  # warm-up
    scores = [scorer.score(count) for count in counts[:: len(counts) // (GENERATION // 8)]]
    scorer.close()
    return sum(score.minor_faults for score in scores) / len(scores)


if __name__ == "__main__":
    sys.exit(main())
