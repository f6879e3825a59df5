"""32 offspring of plans on the front: a race against naive scoring, to the same decision."""

import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from evaluators.evaluator import Evaluator, Fidelity
from evaluators.population import Members
from evaluators.racing import Race, keep_best, rungs_of
from evaluators.score import Score
from tests.benchmarks import duel
from tests.benchmarks.report import Goal, finish, is_quick
from tests.benchmarks.smollm2 import SEED, open_bench

NOTES = """
Our side drops on the way what is surely not wanted, by paired t tests on the windows seen so far;
*tokens* is the share of the text that its candidates were run on.
"""


def main() -> int:
    """Measure, report, and give the exit status."""
    text, repeats = duel.text(quick=is_quick()), 1 if is_quick() else 3
    bench = open_bench(text)
    rungs = rungs_of(text.windows)
    engine = Evaluator(bench.dense.structure, bench.calibration.search, Fidelity(rungs=rungs))
    both = duel.Duel(bench)
    for rung in range(len(rungs)):
        list(engine.score(both.elders, rung))
    engine.expect(both.elders)

    def decide(counts: NDArray[np.int_]) -> tuple[list[int], int]:
        def score(members: Members, rung: int) -> Iterator[tuple[int, Score]]:
            return engine.score(counts[members], rung)

        race = Race(rungs, score, keep_best(duel.WANTED_EACH, looks=len(rungs) - 1))
        for _ in race.run(len(counts)):
            pass
        kls = [race.scores[int(member)].quality["kl"].value for member in race.left]
        chosen = [int(race.left[position]) for position in duel.lowest(kls)]
        return chosen, sum(score.tokens for score in race.scores.values())

    naive, ours = both.fight(decide, repeats)
    goals = [
        Goal(
            figure="a race takes",
            value=duel.faster_ratio(ours, naive),
            limit=0.2,
            at_least=False,
        ),
        Goal(figure="of 8 the same", value=float(ours["same"]), limit=7, at_least=True),
    ]
    facts = (
        f"Text: Python's own help topics, {text.windows} windows of {text.tokens} tokens, rungs "
        f"{rungs}; {repeats} repeat(s); our engine in {bench.dense.loaded.model.dtype}."
    )
    notes = f"{duel.NOTES.strip()}\n\n{NOTES.strip()}\n\n{facts}"
    return finish("racing", [naive, ours], goals, notes, seed=SEED)


if __name__ == "__main__":
    sys.exit(main())
