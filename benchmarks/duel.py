"""Our engine against naive scoring: the same offspring, the same text, the same decision."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.naive import NaiveScorer
from benchmarks.report import Row
from benchmarks.smollm2 import CHILDREN_EACH, PARENT_COSTS, Text, offspring, parents
from evaluators.runtime.device import is_bfloat16_faster
from planner.cli.commands.demo_command import demo_model
from planner.preparation.prepared_model import PreparedModel

WANTED = 8
"""Children that the decision selects, of all families."""
SAMPLED = 2
"""Children of each family whose naive pass is timed where not all need be scored."""
FAMILIES = len(PARENT_COSTS)

FASTER = "bfloat16" if is_bfloat16_faster() else "float32"
"""In which the naive side is faster on this machine: what goals are held against."""

Decide = Callable[[NDArray[np.int_]], tuple[list[int], int]]
"""Of all children's counts ``(members, components)``: those selected, and the tokens spent."""

NOTES = f"""
**Against naive scoring.** {CHILDREN_EACH} children of each of {FAMILIES} plans of
SmolLM2-135M-Instruct at {", ".join(map(str, PARENT_COSTS))} of its parameters are scored on the
same text, to decide which {WANTED} of the {CHILDREN_EACH * FAMILIES} are best: those whose KL
is lowest as a share of their parent's. *naive* is how the published evolutionary planners
score: the full-size model with masks, one candidate at a time, the full-vocabulary KL by
`kl_div` from teacher logits computed once, in a process of its own with torch's defaults; in
float32, and in bfloat16. A full-size pass takes the same for each candidate: {SAMPLED} children
of each parent are timed in each repeat (one in bfloat16), and scaled to all. In our engine the
states of the parents were kept from the generation before, as in a search.

*time* is wall time over that of naive scoring in each of the two dtypes, medians over the
repeats. Published planners score in bfloat16; the goal is held against whichever is the faster
of the two on this CPU (see below), which is also what our side computes in. *same* is how many of
those wanted are those that naive scoring in float32 wants on all of the text, the least of the
repeats.
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
        prepared: The model, sorted, with its text.
    """

    prepared: PreparedModel
    children: NDArray[np.int_] = field(init=False)
    """Kept units, ``(members, components)``, family by family."""
    elders: NDArray[np.int_] = field(init=False)
    """Their parents, ``(families, components)``."""

    def __post_init__(self) -> None:
        self.children = self.prepared.space.configurations(offspring(self.prepared))
        self.elders = self.prepared.space.configurations(parents(self.prepared))

    def fight(self, decide: Decide, repeats: int) -> tuple[Row, Row]:
        """Time both sides at the same decision, in turns.

        Returns:
            The lines of the naive side and of ours.
        """
        float32, bfloat16 = (self._naive(dtype) for dtype in (torch.float32, torch.bfloat16))
        scores = [float32.score(kept) for kept in self.children]
        base = np.repeat([float32.score(kept).kl for kept in self.elders], CHILDREN_EACH)
        wanted = set(lowest([score.kl for score in scores] / base))
        passes = [score.seconds for score in scores]
        measured, same = [], WANTED
        for _ in range(repeats):
            spent = Spent()
            sampled = np.arange(len(self.children)).reshape(FAMILIES, -1)[:, :SAMPLED]
            for first, *others in sampled:
                # a full-size pass takes the same for each candidate
                spent.bfloat16 += CHILDREN_EACH * bfloat16.score(self.children[first]).seconds
                passes += [float32.score(self.children[m]).seconds for m in (first, *others)]
            started = time.perf_counter()
            chosen, spent.tokens = decide(self.children)
            spent.ours = time.perf_counter() - started
            spent.float32 = len(self.children) * statistics.median(passes)
            same = min(same, len(wanted & set(chosen)))
            measured.append(spent)
        float32.close()
        bfloat16.close()
        return _row("naive", measured, same=WANTED), _row(
            "ours", measured, same=same, share=self._share(measured)
        )

    def _naive(self, dtype: torch.dtype) -> NaiveScorer:
        windows = self.prepared.calibration.search
        scorer = NaiveScorer(
            str(demo_model()), dtype, tuple(self.prepared.space.orders), windows, batch=8
        )
        scorer.score(self.elders[0])  # warm-up
        return scorer

    def _share(self, measured: list[Spent]) -> float:
        everything = len(self.children) * self.prepared.calibration.search.numel()
        return statistics.median(spent.tokens for spent in measured) / everything


def lowest(values: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Return the positions of the members with the lowest values, as many as are selected."""
    return [int(position) for position in np.argsort(values, kind="stable")[:WANTED]]


def text(*, quick: bool) -> Text:
    """Return the amount of text that both sides score on."""
    return Text(windows=8 if quick else 16, tokens=64)


def _row(name: str, measured: list[Spent], *, same: int, share: float = 1.0) -> Row:
    def median(value: Callable[[Spent], float]) -> float:
        return statistics.median(map(value, measured))

    ours = name == "ours"
    return {
        "scoring": name,
        "s, float32": median(lambda spent: spent.ours if ours else spent.float32),
        "s, bfloat16": "" if ours else median(lambda spent: spent.bfloat16),
        "time, float32": median(lambda s: s.ours / s.float32 if ours else 1.0),
        "time, bfloat16": median(lambda s: (s.ours if ours else s.float32) / s.bfloat16),
        "tokens": share,
        "same": same,
    }
