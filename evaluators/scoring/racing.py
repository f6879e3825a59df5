"""Racing: candidates that are almost surely dominated are dropped after a part of the text.

All candidates see the same windows in the same order, so that two of them are compared by paired
differences, whose error is far below that of either score.

References:
    Maron & Moore, 1994, "Hoeffding Races"; Birattari et al., 2002, "A Racing Algorithm for
    Configuring Metaheuristics" (tests on paired blocks); Karnin, Koren & Somekh, 2013 (sequential
    halving).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from evaluators.scoring.prefix_tree import Members
from evaluators.scoring.score import Score

Floats = NDArray[np.float64]
Survivors = NDArray[np.bool_]
"""Of each member whether it stays in the race, ``(members,)``."""
Judge = Callable[[Members, Floats], Survivors]
"""Given the members in the race and their scores so far, ``(members, windows)``."""
ScoreRung = Callable[[Members, int], Iterator[tuple[int, Score]]]
"""Scores some members on one rung; yields a position among them and its score there."""

RISK = 0.05
"""Chance, over a whole race, that a candidate is dropped for one that is no better."""


class Race:
    """One population on its way up the rungs.

    Args:
        rungs: Windows scored after each rung, ascending.
        score: Scores members on a rung.
        judge: Decides between rungs.
        metric: Name of the metric that decides; smaller is better.
    """

    def __init__(
        self, rungs: Sequence[int], score: ScoreRung, judge: Judge, metric: str = "kl"
    ) -> None:
        self._rungs = rungs
        self._score = score
        self._judge = judge
        self._metric = metric
        self.scores: dict[int, Score] = {}
        """Of each member, on the windows up to its last rung."""
        self.finalists: Members = np.empty(0, dtype=np.int_)
        """Members that reached the last rung, ascending."""

    def run(self, size: int) -> Iterator[tuple[int, Score]]:
        """Send members ``0 … size − 1`` up the rungs; yield each as it lands, on every rung."""
        members = np.arange(size)
        for number in range(len(self._rungs)):
            for position, rung_score in self._score(members, number):
                member = int(members[position])
                so_far = self.scores.get(member)
                self.scores[member] = rung_score if so_far is None else so_far.then(rung_score)
                yield member, self.scores[member]
            sound = [self.scores[int(member)].failure is None for member in members]
            members = members[np.array(sound, dtype=bool)]
            if number + 1 < len(self._rungs) and len(members):
                members = members[self._judge(members, self._values(members))]
        self.finalists = members

    def _values(self, members: Members) -> Floats:
        return np.stack([self.scores[int(m)].by_window[self._metric] for m in members])


def rungs_of(windows: int, *, fewest: int = 4, most_rungs: int = 3) -> tuple[int, ...]:
    """Divide windows into rungs that double: few enough to be cheap, enough for a test.

    Args:
        windows: All windows.
        fewest: Windows of the first rung at least.
        most_rungs: Rungs at most.

    Example:
        >>> rungs_of(16)
        (4, 8, 16)
    """
    rungs = [windows]
    while len(rungs) < most_rungs and rungs[0] // 2 >= fewest:
        rungs.insert(0, rungs[0] // 2)
    return tuple(rungs)


def surely_worse(values: Floats, rivals: Floats, risk: float) -> NDArray[np.bool_]:
    """Test which candidates score higher than which rivals, by Student's paired t test.

    Args:
        values: ``(candidates, windows)``, at least two windows.
        rivals: On the same windows, ``(rivals, windows)``.
        risk: Chance that two equals test as different in this direction.

    Returns:
        ``(candidates, rivals)``
    """
    differences = values[:, None, :] - rivals[None]
    windows = values.shape[1]
    errors = differences.std(axis=2, ddof=1) / np.sqrt(windows)
    worse: NDArray[np.bool_] = differences.mean(axis=2) > stdtrit(windows - 1, 1.0 - risk) * errors
    return worse


def judge_front(
    costs: Floats,
    rivals: Floats,
    rival_costs: Floats,
    *,
    risk: float = RISK,
    looks: int = 1,
    each: bool = False,
) -> Judge:
    """Return a judge that drops a member if one that costs no more is surely better.

    Args:
        costs: Of all members, ``(members, costs)``.
        rivals: Scores of plans from earlier rounds, ``(rivals, windows)``.
        rival_costs: ``(rivals, costs)``
        risk: Of the whole race.
        looks: Times that the race decides, over which the risk is spread.
        each: Whether the risk is that of each comparison, and not spread over anything.
    """

    def judge(members: Members, values: Floats) -> Survivors:
        against = _with_rivals(values, rivals)
        no_dearer = _no_dearer(costs[members], rival_costs)
        # shared out over the rivals too: the more there are, the easier one is better by chance
        most = 1 if each else looks * max(1, int(no_dearer.sum(axis=1).max()))
        worse = surely_worse(values, against, risk / most)
        return np.asarray(~(worse & no_dearer).any(axis=1))

    return judge


def judge_half(costs: Floats, rivals: Floats, rival_costs: Floats) -> Judge:
    """Return a judge that drops the half farther from the front, whatever the errors.

    Args:
        costs: Of all members, ``(members, costs)``.
        rivals: Scores of plans from earlier rounds, ``(rivals, windows)``.
        rival_costs: ``(rivals, costs)``
    """

    def judge(members: Members, values: Floats) -> Survivors:
        means = _with_rivals(values, rivals).mean(axis=1)
        no_dearer = _no_dearer(costs[members], rival_costs)
        best = np.where(no_dearer, means[None], np.inf).min(axis=1)
        excess = values.mean(axis=1) / np.maximum(best, np.finfo(np.float64).tiny)
        order = np.argsort(excess, kind="stable")
        survivors = np.zeros(len(members), dtype=bool)
        survivors[order[: (len(members) + 1) // 2]] = True
        return survivors

    return judge


def _no_dearer(costs: Floats, rival_costs: Floats) -> NDArray[np.bool_]:
    """Compare costs: who costs no more than a member in each, ``(members, members + rivals)``."""
    all_costs = np.concatenate([costs, rival_costs])
    return np.asarray((all_costs[None] <= costs[:, None]).all(axis=2))


def _with_rivals(values: Floats, rivals: Floats) -> Floats:
    """Append the rivals' scores on the same windows below the candidates'."""
    return np.concatenate([values, rivals[:, : values.shape[1]]]) if len(rivals) else values


def projected(values: Floats, references: Floats) -> float:
    """Estimate a candidate's mean over all windows from its first ones.

    Some windows are harder than others, for all candidates alike: the ratio estimator (Cochran,
    1977, chapter 6) takes that out.

    Args:
        values: Of the candidate, ``(windows so far,)``.
        references: Of plans that were scored on all windows, ``(plans, windows)``.
    """
    mean = float(values.mean())
    if not len(references) or len(values) == references.shape[1]:
        return mean
    reference_mean = float(references[:, : len(values)].mean())
    return mean * float(references.mean()) / reference_mean if reference_mean > 0 else mean
