"""32 offspring of plans on the front: a race against naive scoring, to the same decision."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks import duel, sides
from benchmarks.report import Goal, finish, is_quick
from benchmarks.smollm2 import CHILDREN_EACH, SEED, open_prepared
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import Members
from evaluators.scoring.racing import RISK, Race, Survivors, rungs_of, surely_worse
from evaluators.scoring.score import Score

NOTES = """
Our side drops on the way what is surely not among the best, by paired t tests on the windows seen
so far; *tokens* is the share of the text that its candidates were run on.
"""

_MOST = {"float32": 0.2, "bfloat16": 0.35}
"""Of the naive side's time, in the format that is faster here."""


def main() -> int:
    """Measure, report, and return the exit status."""
    text, (repeats, runs) = duel.text(quick=is_quick()), (1, 1) if is_quick() else (3, 3)
    prepared = open_prepared(text)
    rungs = rungs_of(text.windows, most_rungs=4)
    engine = Evaluator(prepared.sorted_model, prepared.calibration.search, Fidelity(rungs=rungs))
    both = duel.Duel(prepared)
    for rung in range(len(rungs)):
        list(engine.score(both.elders, rung))
    engine.expect(both.elders)

    elders = dict(engine.score(both.elders))
    base = [elders[family].by_window["kl"] for family in range(duel.FAMILIES)]

    def decide(counts: NDArray[np.int_]) -> tuple[list[int], int]:
        tokens = 0

        def score(members: Members, rung: int) -> Iterator[tuple[int, Score]]:
            nonlocal tokens
            for position, found in engine.score(counts[members], rung):
                parent = base[members[position] // CHILDREN_EACH]
                seen = slice(rungs[rung - 1] if rung else 0, rungs[rung])
                # candidates compete by their improvement on the parent, on the same windows
                change = (found.by_window["kl"] - parent[seen]) / parent.mean()
                tokens += found.tokens
                yield position, replace(found, by_window={"change": change})

        judge = _JudgeBest(duel.WANTED, looks=len(rungs) - 1)
        race = Race(rungs, score, judge, metric="change")
        for _ in race.run(len(counts)):
            pass
        changes = {int(m): race.scores[int(m)].by_window["change"].mean() for m in race.finalists}
        best = [*judge.accepted, *sorted(changes, key=changes.__getitem__)][: duel.WANTED]
        return best, tokens

    naive, ours = both.fight(decide, repeats)
    beside = sides.compared("racing", text, runs)
    goals = [
        Goal(
            figure=f"of naive scoring in {duel.FASTER} a race takes",
            value=float(ours[f"time, {duel.FASTER}"]),
            limit=_MOST[duel.FASTER],
            at_least=False,
        ),
        Goal(figure="of 8 the same", value=float(ours["same"]), limit=7, at_least=True),
    ]
    facts = (
        f"Text: Python's own help topics, {text.windows} windows of {text.tokens} tokens, rungs "
        f"{rungs}; {repeats} repeat(s); our engine in {prepared.dense.loaded.model.dtype}."
    )
    pair = f"{sides.NOTES.strip()} {runs} run(s) of each side."
    notes = f"{duel.NOTES.strip()}\n\n{NOTES.strip()}\n\n{facts}\n\n{pair}"
    return finish("racing", [naive, ours, *beside], goals, notes, seed=SEED)


class _JudgeBest:
    """Selects the best few: drops whom enough are surely better than, accepts whom few beat.

    Args:
        count: How many to select.
        looks: Times that the race decides, over which the risk is spread.
    """

    def __init__(self, count: int, *, looks: int) -> None:
        self._count = count
        self._risk = RISK / looks
        self.accepted: list[int] = []
        """Members that are surely among the best, without having seen all windows."""

    def __call__(self, members: Members, values: NDArray[np.float64]) -> Survivors:
        worse = surely_worse(values, values, self._risk)  # rows than columns
        places = self._count - len(self.accepted)
        dropped = worse.sum(axis=1) >= places
        accepted = ~dropped & (worse.sum(axis=0) >= len(values) - places)
        self.accepted += map(int, members[accepted])
        return np.asarray(~(dropped | accepted))


if __name__ == "__main__":
    sys.exit(main())
