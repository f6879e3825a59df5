"""Plans that a race left unfinished are scored on the windows that are missing, and no others."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluators.scoring.score import Score
from planner.searching.rescoring import _completed
from search_spaces.progress import NO_PROGRESS

TEXT = np.linspace(1.0, 2.0, 16)
"""What any plan scores on each window."""


@dataclass(frozen=True)
class Stored:
    genome: tuple[int, ...]
    score: Score

    def scored(self, score: Score) -> "Stored":
        return Stored(self.genome, score)


@dataclass
class Scores:
    """A run's plans, and what scores them, rung by rung."""

    rungs: tuple[int, ...]
    plans: dict[tuple[int, ...], Stored] = field(default_factory=dict)

    def find(self, genome: tuple[int, ...]) -> Stored | None:
        return self.plans.get(genome)

    def record(self, plan: Stored) -> None:
        self.plans[plan.genome] = plan

    def score(self, genomes: NDArray[np.int_], rung: int) -> Any:
        start, stop = (0, *self.rungs)[rung : rung + 2]
        for index, genome in enumerate(genomes.tolist()):
            yield index, Stored(tuple(genome), seen(start, stop))


def seen(start: int, stop: int) -> Score:
    values = {"kl": TEXT[start:stop]}
    return Score(by_window=values, tokens=stop - start, seconds=0.0, failure=None)


@pytest.mark.parametrize("rungs", [(4, 8, 16), (16,), (8, 16), (6, 16)])
@pytest.mark.parametrize("held", [4, 8, 10])
def test_what_was_raced_on_other_rungs_counts_no_window_twice(
    rungs: tuple[int, ...], held: int
) -> None:
    run: Any = Scores(rungs, {(1,): Stored((1,), seen(0, held))})
    _completed(run, run, [(1,)], NO_PROGRESS)
    score = run.plans[(1,)].score
    assert score.by_window["kl"].tolist() == TEXT.tolist()
    assert score.tokens == 16
