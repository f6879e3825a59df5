"""Whether the stated standard error is true: how often the interval holds the corpus's value."""

import sys

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.smollm2 import SEED, Text, open_prepared, parents
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.score import estimate

REDRAWS = 200
DRAWN = (4, 8, 16)
JUDGED = 16
"""Windows of the draws that the goal is about: a search's default."""
LEVEL = 0.95

NOTES = f"""
Plans of SmolLM2-135M-Instruct at several shares of its parameters are scored once on every window
of a corpus, Python's own help topics. From the scores by window, {REDRAWS} draws of a few windows
are estimated each as a search does (`evaluators.scoring.score.estimate`), and the interval of
{100 * LEVEL:.0f} % around the estimate (value ± t · standard error, Student's t) is held against
the mean over the whole corpus. *covered* is how often it holds that mean; *paired* the same for
the difference of a plan from the next smaller one, which is what races test.
*stated/true* is the mean stated error over the spread of the estimates. The goal is about draws of
{JUDGED} windows, over all plans.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    text = Text(windows=192, tokens=64) if is_quick() else Text(windows=512, tokens=128)
    prepared = open_prepared(text)
    windows = prepared.calibration.search
    engine = Evaluator(prepared.sorted_model, windows)
    counts = prepared.space.configurations(parents(prepared))
    scores = dict(engine.score(counts))
    values = np.stack([scores[member].by_window["kl"] for member in range(len(counts))])
    rng = np.random.default_rng(SEED)
    rows = [summary(values, drawn, rng) for drawn in DRAWN]
    judged = next(row for row in rows if row["windows"] == JUDGED)
    covered = float(judged["covered"])
    goals = [
        Goal(figure="covered", value=covered, limit=0.92, at_least=True, percent=True),
        Goal(figure="covered", value=covered, limit=0.98, at_least=False, percent=True),
    ]
    facts = f"Corpus: {text.windows} windows of {text.tokens} tokens; {len(counts)} plans."
    return finish("errorbars", rows, goals, f"{NOTES.strip()}\n\n{facts}", seed=SEED)


def summary(values: NDArray[np.float64], drawn: int, rng: np.random.Generator) -> Row:
    """Redraw windows and return one line of the table.

    Args:
        values: Of each plan on each window of the corpus, ``(plans, windows)``.
        drawn: Windows in a draw.
        rng: Draws them.
    """
    picks = [rng.choice(values.shape[1], size=drawn, replace=False) for _ in range(REDRAWS)]
    differences = values[:-1] - values[1:]
    stated = np.array([[estimate(row[pick]).standard_error for pick in picks] for row in values])
    true = np.array([[row[pick].mean() for pick in picks] for row in values]).std(axis=1, ddof=1)
    by_plan = [coverage(row, picks) for row in values]
    return {
        "windows": drawn,
        "covered": float(np.mean(by_plan)),
        "least, of a plan": float(np.min(by_plan)),
        "most, of a plan": float(np.max(by_plan)),
        "paired": float(np.mean([coverage(row, picks) for row in differences])),
        "stated/true": float(np.mean(stated.mean(axis=1) / true)),
    }


def coverage(values: NDArray[np.float64], picks: list[NDArray[np.int_]]) -> float:
    """Return the share of draws whose interval holds the mean of all values ``(windows,)``."""
    truth, held = values.mean(), 0
    for pick in picks:
        found = estimate(values[pick])
        width = stdtrit(len(pick) - 1, (1 + LEVEL) / 2) * found.standard_error
        held += bool(abs(found.value - truth) <= width)
    return held / len(picks)


if __name__ == "__main__":
    sys.exit(main())
