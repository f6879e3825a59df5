"""How much of the true hypervolume searchers find on problems that can be enumerated."""

import statistics
import sys
from collections.abc import Callable, Mapping
from math import inf
from typing import get_args

from benchmarks.report import Goal, Row, finish, is_quick
from planner.searchers import SearcherName
from tests.problems import ToyModel, additive, noisy, pairwise, two_costs
from tests.problems.trial import GRADIENT_COST, POPULATION, additive_plans, try_searcher

SUBJECT: str = "frontier"
"""The searcher that must reach the goal."""
RIVALS: tuple[str, ...] = ("nsga2", "random", "knapsack", "greedy")
PROBLEMS: Mapping[str, Callable[[], ToyModel]] = {
    "additive": additive,
    "pairwise": pairwise,
    "noisy": noisy,
    "two costs": two_costs,
}
HELD = ("additive", "pairwise")
"""Problems that the goal is held on."""
SHARE = 0.006 if is_quick() else 0.03
"""Of the evaluations that enumeration takes; the goal allows 3 %."""
EARLY_SHARE = 0.003
GOAL = 0.99

NOTES = f"""
Toy models of ten sites with two to five levels, {additive().size:,} genomes each, whose exact
fronts are computed by enumeration. *additive*: KL is a sum over sites. *pairwise*: pairs of
sites are redundant, so that either is nearly free to lose and both are dear, neighbours
lost together raise KL by more than their sum, others by less. *noisy*: the same, where a part of
the text predicts only roughly the KL on all of it (relative standard error 0.17 on the first
quarter).
*two costs*: the same, with a second cost.

A searcher is stopped after {SHARE:.1%} of the evaluations that enumeration takes. A genome counts
as an evaluation by the share of the text that it is scored on, the gradient at a genome as
{GRADIENT_COST}. What is found is the hypervolume of the genomes that were scored on all text, as a
share of the true front's, over {additive().cheapest:g} to 1 of the first cost: measured against
the least KL at that lower end, and the dense costs.
Searchers propose about {POPULATION} genomes at a time. *found* is the median over the seeds,
*worst* the worst seed, *early* the median at {EARLY_SHARE:.1%} of the evaluations of enumeration,
*to 99 %* the median of the evaluations until {GOAL:.0%} was found (inf: not within the limit).
The goal is held against the worst seed.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    seeds = range(2 if is_quick() else 5)
    # rivals that do not exist are left out
    names: list[SearcherName] = [n for n in get_args(SearcherName) if n in (SUBJECT, *RIVALS)]
    rows: list[Row] = []
    goals: list[Goal] = []
    for problem, make in PROBLEMS.items():
        for name in names:
            row = _row(problem, name, make(), seeds)
            rows.append(row)
            if name == SUBJECT and problem in HELD:
                worst = float(row["worst"])
                figure = f"{problem}, found"
                goals.append(
                    Goal(figure=figure, value=worst, limit=GOAL, at_least=True, percent=True)
                )
    added = ", ".join(
        f"{problem} {make().hypervolume(additive_plans(make())):.3f}"
        for problem, make in PROBLEMS.items()
    )
    assert goals, f"`{SUBJECT}` must be a searcher"
    facts = (
        f"Seeds: {len(seeds)}. {SHARE:.1%} are {SHARE * additive().size:,.0f} evaluations. The "
        "exact best plans by the sum of single-site KLs, at 40 limits on the first cost, reach: "
        f"{added}."
    )
    return finish("truth", rows, goals, f"{NOTES.strip()}\n\n{facts}", seed=seeds[0])


def _row(problem: str, name: SearcherName, toy: ToyModel, seeds: range) -> Row:
    most = SHARE * toy.size
    trials = [try_searcher(name, toy, seed, most) for seed in seeds]
    found = [trial.share_at(most) for trial in trials]
    needed = [trial.needed(GOAL) for trial in trials]
    # no mean with what was never reached
    median = statistics.median_high if inf in needed else statistics.median
    return {
        "problem": problem,
        "searcher": name,
        "found": f"{statistics.median(found):.4f}",
        "worst": f"{min(found):.4f}",
        "early": f"{statistics.median(t.share_at(EARLY_SHARE * toy.size) for t in trials):.4f}",
        "to 99 %": f"{median(needed):.0f}",
    }


if __name__ == "__main__":
    sys.exit(main())
