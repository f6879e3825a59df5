"""The whole front: one run of `frontier` against a run of `evopress` for each budget."""

import sys
from collections.abc import Mapping, Sequence

from benchmarks.contest import Contest, Trace, text_name
from benchmarks.report import Goal, Row, finish, is_quick
from planner.results.front import front
from planner.results.indicators import Points, hypervolume, reference_kl
from planner.results.significance import compare_kl
from planner.runs.records import Evaluation

CHEAPEST = 0.4
"""Share of the parameters down to which fronts are compared."""
BUDGET = f"params<={(CHEAPEST + 0.25) / 1.25:.4f}x"
"""A search looks a quarter of what its budget prunes below it: down to the cheapest."""
ANSWERED = (0.4, 0.46, 0.52, 0.58, 0.64, 0.7, 0.76, 0.82, 0.88, 0.94)
CHOOSING = 0.05

NOTES = """
SmolLM2-135M-Instruct in float32, KV groups × MLP channels × drops together. *frontier* is one
run of the default searcher with the tokens that *evopress* has for each of its budgets.
*knapsack* is the exact solver on the sums of a single-site pass; *greedy* lowers the sites that
raise KL least for what they save, step by step, each candidate on a sixteenth of the windows, as
its trajectory would otherwise not end; *uniform* prunes the same share everywhere. Of all runs the
plans of the front are scored on hold-out text.

*hypervolume* is that of the plans' KL on hold-out text and their parameters from 0.4 to 1 of the
dense model's, against a KL a tenth above the worst of these two fronts, as a share of the box.
*beaten at*: at how many of ten budgets the best plan of `frontier` (chosen by its KL on
calibration text, without any new evaluation) is better on hold-out text than that method's best
within the budget, by Student's paired t test at 97.5 %; *better at*: the same by value.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    contest = Contest(
        0,
        space="heads,channels,drops",
        budget=BUDGET,
        search_windows=8 if is_quick() else 64,
        window_tokens=64 if is_quick() else 128,
        rungs=2 if is_quick() else 5,
        holdout_windows=12 if is_quick() else 64,
        fresh_windows=2,
    )
    tokens = 40_000 if is_quick() else 1_500_000
    budgets = (0.5, 0.75) if is_quick() else (0.4, 0.52, 0.64, 0.76, 0.88)
    methods = {
        "frontier": [contest.run("frontier", searcher="frontier", tokens=tokens)],
        "evopress": [_evopress(contest, budget, tokens) for budget in budgets],
        **{name: [_baseline(contest, name)] for name in ("knapsack", "greedy", "uniform")},
    }
    fronts = {name: _front(traces) for name, traces in methods.items()}
    rows = _rows(contest, methods, fronts)
    facts = (
        f"Text: {text_name()}; {tokens:,} candidate tokens for frontier and for each of "
        f"evopress's budgets {', '.join(f'{budget:g}x' for budget in budgets)}; answered budgets "
        f"{', '.join(f'{share:g}x' for share in ANSWERED)}."
    )
    return finish("front", rows, _goals(rows), f"{NOTES.strip()}\n\n{facts}", seed=0)


def _evopress(contest: Contest, budget: float, tokens: int) -> Trace:
    return contest.run(
        f"evopress-{budget}",
        searcher="evopress",
        budget=f"params<={budget}x",
        focus="budget",
        tokens=tokens,
    )


def _baseline(contest: Contest, name: str) -> Trace:
    if name == "uniform":
        return contest.run(name, searcher=name, evaluations=12 if is_quick() else 40)
    if name == "greedy":
        return contest.run(
            name, searcher=name, search_windows=max(1, contest.settings.search_windows // 16)
        )
    return contest.run(name, searcher=name)  # until it has nothing left to propose


def _front(traces: Sequence[Trace]) -> list[Evaluation]:
    """Return the plans of some runs that are on the front of any, each scored on hold-out text."""
    return [e for trace in traces for e in front(trace.run.landed(), ("params",))]


def _rows(
    contest: Contest,
    methods: Mapping[str, Sequence[Trace]],
    fronts: Mapping[str, list[Evaluation]],
) -> list[Row]:
    dense = contest.prepared.dense.costs.dense()
    points = {n: Points.of(plans, ("params",), dense, "holdout") for n, plans in fronts.items()}
    reference = reference_kl(points["frontier"], points["evopress"])
    chosen = {
        name: [_within(plans, share * dense["params"]) for share in ANSWERED]
        for name, plans in fronts.items()
    }
    rows: list[Row] = []
    for name, traces in methods.items():
        duels = list(zip(chosen["frontier"], chosen[name], strict=True))
        verdicts = [
            compare_kl(ours.holdout["kl"], theirs.holdout["kl"])[1]
            for ours, theirs in duels
            if ours and theirs
        ]
        ours = name == "frontier"
        rows.append(
            {
                "method": name,
                "hypervolume": hypervolume(points[name], reference, cheapest=CHEAPEST),
                "tokens": sum(trace.spent.tokens for trace in traces),
                "s": sum(trace.spent.seconds for trace in traces),
                "plans on the front": len(fronts[name]),
                "beaten at": "" if ours else verdicts.count("better"),
                "better at": "" if ours else len(verdicts) - verdicts.count("no better"),
                "choosing": max(
                    trace.spent.choosing_seconds / trace.spent.seconds for trace in traces
                ),
            }
        )
    return rows + _answers(chosen)


def _answers(chosen: Mapping[str, Sequence[Evaluation | None]]) -> list[Row]:
    """Return each budget's best plan of each method."""
    return [
        {
            "budget": f"params<={share:g}x",
            **{name: _shown(plans[position]) for name, plans in chosen.items()},
        }
        for position, share in enumerate(ANSWERED)
    ]


def _within(plans: Sequence[Evaluation], limit: float) -> Evaluation | None:
    """Return the plan of the lowest KL on calibration text within a budget, as a user would."""
    fitting = [plan for plan in plans if plan.costs["params"] <= limit]
    return min(fitting, key=lambda plan: plan.quality["kl"].value, default=None)


def _shown(plan: Evaluation | None) -> str:
    if plan is None:
        return "–"
    return f"{plan.holdout['kl'].value:.3f} ± {plan.holdout['kl'].standard_error:.3f}"


def _goals(rows: Sequence[Row]) -> list[Goal]:
    by_name = {str(row["method"]): row for row in rows if "method" in row}
    ratio = float(by_name["frontier"]["hypervolume"]) / float(by_name["evopress"]["hypervolume"])
    goals = [
        Goal(figure="hypervolume of evopress's", value=ratio, limit=1.0, at_least=True),
        Goal(
            figure="choosing takes",
            value=float(by_name["frontier"]["choosing"]),
            limit=CHOOSING,
            at_least=False,
            percent=True,
        ),
    ]
    return goals + [
        Goal(
            figure=f"budgets at which {name} is beaten",
            value=float(by_name[name]["beaten at"]),
            limit=len(ANSWERED),
            at_least=True,
        )
        for name in ("uniform", "greedy", "knapsack")
    ]


if __name__ == "__main__":
    sys.exit(main())
