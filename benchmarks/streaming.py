"""Scoring a model whose layers stay on disk, against reading them once plus the arithmetic."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import Goal, Row, finish, is_quick
from evaluators.runtime.device import pick_dtype
from evaluators.scoring.evaluator import Evaluator
from search_spaces.models import Offload
from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sort_units_
from tests.models.factory import VOCABULARY
from tests.models.streamed import write_large

SEED = 0
SLOWEST = 1.5
PIECE_BYTES = 2**24
OFFLOADS: tuple[Offload, Offload] = ("always", "never")

NOTES = """
Scores of one generation of candidates of a random Llama (hidden size 2,048, 8,192 MLP channels,
126 MB a layer in bfloat16), in one process, in turns:

- *streamed*: `Evaluator.score` with the layers on disk; each is read, its units sorted and its
  weights cast, once for the generation.
- *read*: the bytes of all weight files read once into one small buffer, nothing else.
- *arithmetic*: `Evaluator.score` on the same model loaded whole: the same candidates, text and
  components. Scores are compared, and a difference stops the benchmark.

*ratio* is streamed / (read + arithmetic), the median over the repeats of the ratio inside each.
Before each reading the kernel is asked to drop the files from its cache, as a model larger than
memory would drop out of it. The model is small enough to be loaded whole, so that the arithmetic
is measured and not extrapolated; all three grow with the number of layers alike. Candidates keep
60 to 100 % of each component, at random. The goal is held by the larger generation; a default
search has 32 candidates on 2,048 tokens, with much more arithmetic for each byte read. The smaller
one shows what sorting and casting cost where there is little else to do.
"""

Scores = dict[int, Mapping[str, object]]


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How finely is measured."""

    layers: int
    generations: tuple[int, int]
    """Candidates of the smaller and of the larger generation."""
    windows: int
    tokens: int
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds that one repeat took."""

    streamed: float
    read: float
    arithmetic: float

    @property
    def ratio(self) -> float:
        return self.streamed / (self.read + self.arithmetic)


def main() -> int:
    """Measure, report, and return the exit status."""
    fidelity = (
        Fidelity(layers=4, generations=(2, 8), windows=2, tokens=64, repeats=3)
        if is_quick()
        else Fidelity(layers=12, generations=(2, 16), windows=4, tokens=64, repeats=5)
    )
    dtype = pick_dtype("auto", "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        write_large(folder, layers=fidelity.layers)
        streamed, whole = (open_judge(folder, offload, dtype, fidelity) for offload in OFFLOADS)
        rows = [
            measured(folder, streamed, whole, count=count, repeats=fidelity.repeats)
            for count in fidelity.generations
        ]
    notes = (
        f"{NOTES.strip()}\n\n{fidelity.layers} layers; {fidelity.windows} windows of "
        f"{fidelity.tokens} tokens; {fidelity.repeats} repeats; {dtype} on the CPU."
    )
    goal = Goal(
        figure="streamed takes",
        value=float(rows[-1]["ratio"]),
        limit=SLOWEST,
        at_least=False,
    )
    return finish("streaming", rows, [goal], notes, seed=SEED)


def open_judge(
    folder: Path, offload: Offload, dtype: torch.dtype, fidelity: Fidelity
) -> Evaluator:
    """Load a model, sort its units in a random order, and make its evaluator."""
    loaded = load_model(str(folder), dtype=dtype, offload=offload)
    structure = read_structure(loaded.model, loaded.stream)
    rng = np.random.default_rng(SEED)
    sorted_model = sort_units_(
        structure, [rng.permutation(component.unit_count) for component in structure.components]
    )
    shape = (fidelity.windows, fidelity.tokens)
    return Evaluator(sorted_model, torch.from_numpy(rng.integers(VOCABULARY, size=shape)))


def generation(structure: ModelStructure, count: int) -> NDArray[np.int_]:
    """Candidates that keep 60 to 100 % of each component, ``(candidates, components)``."""
    widths = np.array([component.unit_count for component in structure.components])
    shares = np.random.default_rng(SEED).uniform(0.6, 1.0, size=(count, len(widths)))
    kept: NDArray[np.int_] = np.ceil(shares * widths).astype(np.int_)
    return kept


def measured(
    folder: Path, streamed: Evaluator, whole: Evaluator, *, count: int, repeats: int
) -> Row:
    """Return one line of the table: medians over the repeats."""
    counts = generation(whole.tree.structure, count)
    found = [repeat(folder, streamed, whole, counts) for _ in range(repeats)]
    return {
        "candidates": count,
        "tokens of each": next(iter(whole.score(counts[:1])))[1].tokens,
        "s, streamed": statistics.median(times.streamed for times in found),
        "s, read": statistics.median(times.read for times in found),
        "s, arithmetic": statistics.median(times.arithmetic for times in found),
        "ratio": statistics.median(times.ratio for times in found),
    }


def repeat(folder: Path, streamed: Evaluator, whole: Evaluator, counts: NDArray[np.int_]) -> Times:
    """Read, score whole and score streamed, one after another."""
    drop_from_cache(folder)
    started = time.perf_counter()
    read_once(folder)
    has_read = time.perf_counter()
    expected = scores(whole, counts)
    has_computed = time.perf_counter()
    drop_from_cache(folder)
    streams = time.perf_counter()
    found = scores(streamed, counts)
    has_streamed = time.perf_counter()
    assert found == expected, "a streamed model gives other scores"
    return Times(
        streamed=has_streamed - streams,
        read=has_read - started,
        arithmetic=has_computed - has_read,
    )


def scores(judge: Evaluator, counts: NDArray[np.int_]) -> Scores:
    """Score all candidates."""
    return {member: score.quality for member, score in judge.score(counts)}


def read_once(folder: Path) -> None:
    """Read all weights, piece by piece, into one place."""
    buffer = bytearray(PIECE_BYTES)
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop_from_cache(folder: Path) -> None:
    """Ask the kernel to forget the weight files, where it takes such advice."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())  # only what is written can be dropped
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    sys.exit(main())
