"""Our engine against naive scoring: the same offspring, the same text, the same decision."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from planner.demo import demo_model
from planner.workbench import Workbench
from tests.benchmarks.naive import NaiveScorer
from tests.benchmarks.report import Row
from tests.benchmarks.smollm2 import CHILDREN_EACH, PARENT_COSTS, Text, offspring, parents

WANTED_EACH = 2
"""Children of each parent that the decision takes."""
FAMILIES = len(PARENT_COSTS)

Decide = Callable[[NDArray[np.int_]], tuple[list[int], int]]
"""Given one family's counts ``(members, sub_blocks)``: whom it wants, and the tokens spent."""

NOTES = f"""
**Against naive scoring.** {CHILDREN_EACH} children of each of {FAMILIES} plans of
SmolLM2-135M-Instruct at {", ".join(map(str, PARENT_COSTS))} of its parameters are scored on the
same text, to decide which {WANTED_EACH} of each family have the lowest KL:
{WANTED_EACH * FAMILIES} of {CHILDREN_EACH * FAMILIES}. *naive* is how the published
evolutionary planners score: the full-size model with masks, one candidate at a time, the
full-vocabulary KL by `kl_div` from teacher logits computed once, in a process of its own with
torch's defaults; in float32, and in bfloat16 timed on one candidate of each family and scaled
to all (a full-size pass takes the same for each). In our engine the states of the parents were
kept from the generation before, as in a search.

The sides take turns, family by family; *time* is wall time over that of naive scoring, in each
of the two dtypes, medians over the repeats. The goal is held against the faster of the two on
this machine. *same* is how many of those wanted are those that naive scoring wants on all of
the text.
"""


@dataclass
class Spent:
    """Seconds and tokens of one repeat."""

    ours: float = 0.0
    float32: float = 0.0
    bfloat16: float = 0.0
    tokens: int = 0


@dataclass
class Duel:
    """Two sides on one set of candidates.

    Args:
        bench: The model, sorted, with its text.
    """

    bench: Workbench
    families: NDArray[np.int_] = field(init=False)
    """Kept units, ``(families, members, sub_blocks)``."""
    elders: NDArray[np.int_] = field(init=False)
    """Their parents, ``(families, sub_blocks)``."""

    def __post_init__(self) -> None:
        counts = self.bench.space.counts(offspring(self.bench))
        self.families = counts.reshape(FAMILIES, CHILDREN_EACH, -1)
        self.elders = self.bench.space.counts(parents(self.bench))

    def fight(self, decide: Decide, repeats: int) -> tuple[Row, Row]:
        """Let both sides decide in turns.

        Returns:
            The lines of the naive side and of ours.
        """
        float32, bfloat16 = (self._naive(dtype) for dtype in (torch.float32, torch.bfloat16))
        measured = []
        for _ in range(repeats):
            spent, same = Spent(), 0
            for family in self.families:
                scores = [float32.score(kept) for kept in family]
                spent.float32 += sum(score.seconds for score in scores)
                spent.bfloat16 += len(family) * bfloat16.score(family[0]).seconds
                started = time.perf_counter()
                chosen, tokens = decide(family)
                spent.ours += time.perf_counter() - started
                spent.tokens += tokens
                same += len(set(chosen) & set(lowest([score.kl for score in scores])))
            measured.append(spent)
        float32.close()
        bfloat16.close()
        return _row("naive", measured, same=WANTED_EACH * FAMILIES), _row(
            "ours", measured, same=same, share=self._share(measured)
        )

    def _naive(self, dtype: torch.dtype) -> NaiveScorer:
        windows = self.bench.calibration.search
        scorer = NaiveScorer(str(demo_model()), dtype, self.bench.space.orders, windows, batch=4)
        scorer.score(self.elders[0])  # warm-up
        return scorer

    def _share(self, measured: list[Spent]) -> float:
        everything = FAMILIES * CHILDREN_EACH * self.bench.calibration.search.numel()
        return statistics.median(spent.tokens for spent in measured) / everything


def lowest(kls: list[float]) -> list[int]:
    """Give the positions of the wanted members."""
    return sorted(range(len(kls)), key=kls.__getitem__)[:WANTED_EACH]


def text(*, quick: bool) -> Text:
    """Give the amount of text that a duel is fought on."""
    return Text(windows=16, tokens=32 if quick else 64)


def faster_ratio(ours: Row, naive: Row) -> float:
    """Our time over the faster of the two naive ones."""
    fastest = min(float(naive["s, float32"]), float(naive["s, bfloat16"]))
    which = "float32" if fastest == float(naive["s, float32"]) else "bfloat16"
    return float(ours[f"time, {which}"])


def _row(name: str, measured: list[Spent], *, same: int, share: float = 1.0) -> Row:
    def median(value: Callable[[Spent], float]) -> float:
        return statistics.median(map(value, measured))

    ours = name == "ours"
    return {
        "scoring": name,
        "s, float32": median(lambda spent: spent.ours if ours else spent.float32),
        "s, bfloat16": float("nan") if ours else median(lambda spent: spent.bfloat16),
        "time, float32": median(lambda s: s.ours / s.float32 if ours else 1.0),
        "time, bfloat16": median(lambda s: (s.ours if ours else s.float32) / s.bfloat16),
        "tokens": share,
        "same": same,
    }
