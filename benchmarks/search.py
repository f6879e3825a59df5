"""One budget: what `evopress` reaches, and what `frontier` needs to reach it."""

import statistics
import sys
from dataclasses import dataclass
from math import inf

from benchmarks.contest import Contest, Trace, text_name
from benchmarks.report import Goal, Row, finish, is_quick
from planner.runs.records import Evaluation
from planner.searchers.published.evopress import INITIAL, OFFSPRING, STAGES

GOAL = 0.2
"""Of evopress's tokens, and of its time."""
MOST = 0.4
"""Of evopress's tokens that frontier is given, so that a missed goal can be measured too."""
CHOOSING = 0.05


@dataclass(frozen=True, kw_only=True)
class Case:
    """One task."""

    name: str
    budget: str
    seeds: int


CASES = (
    # 19 attentions and 19 MLPs of 30 are kept: KV cache counts attentions, parameters the rest
    Case(name="11 + 11 of 60 dropped", budget="params<=0.7107x,kv<=0.6334x", seeds=3),
    Case(name="25 % of component params", budget="params<=0.8027x", seeds=1),
    Case(name="50 % of component params", budget="params<=0.6054x", seeds=1),
)

NOTES = f"""
SmolLM2-135M-Instruct in float32; each attention and each MLP is kept whole or dropped,
anywhere. *evopress* is the published (1 + λ) evolution: {INITIAL} initial plans, {OFFSPRING}
offspring, {" → ".join(f"{stage.survivors} at {stage.tokens:,} tokens" for stage in STAGES)}, on
fresh samples of the windows, level switches that keep the number of dropped attentions and of
dropped MLPs. *frontier* is the default searcher with `--focus budget`, its single-site pass and
gradients (three tokens for each token differentiated on) included. Both are scored by the same
engine, which shares prefixes between offspring: both are faster than published implementations.
The budget of the first case bounds parameters and KV cache, which 11 + 11 meet exactly; a plan
that drops more attentions and one MLP less may too: *dropped* shows what was. Tokens are those
that candidates are run on; time is wall time of searching, choosing included, the scores that
are only shown (of evopress's parents, on all windows) not.

*tokens* and *time* are when frontier's best plan within the budget first had a KL on hold-out
text that is not above that of evopress's last parent, and stayed so, as a share of what evopress
spent in all; inf: not within {MOST:.0%} of its tokens. Goals are held against the median of the
seeds of the first case, and against the other cases.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    cases = CASES[:1] if is_quick() else CASES
    rows = [_row(case, seed) for case in cases for seed in range(1 if is_quick() else case.seeds)]
    goals = [_goal(rows, case.name, figure) for case in cases for figure in ("tokens", "time")]
    choosing = max(float(row["choosing"]) for row in rows)
    goals.append(
        Goal(figure="choosing takes", value=choosing, limit=CHOOSING, at_least=False, percent=True)
    )
    facts = f"Text: {text_name()}; evopress stops at {_tokens():,} candidate tokens."
    return finish("search", rows, goals, f"{NOTES.strip()}\n\n{facts}", seed=0)


def _tokens() -> int:
    return 250_000 if is_quick() else 1_500_000


def _goal(rows: list[Row], case: str, figure: str) -> Goal:
    value = statistics.median(float(row[figure]) for row in rows if row["case"] == case)
    return Goal(figure=f"{case}: {figure}", value=value, limit=GOAL, at_least=False)


def _row(case: Case, seed: int) -> Row:
    contest = Contest(
        seed,
        space="drops",
        budget=case.budget,
        focus="budget",
        search_windows=64,
        window_tokens=128,
        rungs=5,
        holdout_windows=32 if is_quick() else 64,
        fresh_windows=2,
    )
    published = contest.run("evopress", searcher="evopress", tokens=_tokens())
    ours = contest.run("frontier", searcher="frontier", tokens=round(MOST * _tokens()))
    last = published.steps[-1].evaluation
    (target,) = contest.holdout([last])
    tokens, seconds = _reached(contest, ours, target.value)
    best = ours.steps[-1].evaluation
    (reached,) = contest.holdout([best])
    return {
        "case": case.name,
        "seed": seed,
        "evopress KL": last.quality["kl"].value,
        "hold-out": f"{target.value:.3f} ± {target.standard_error:.3f}",
        "s": published.spent.seconds,
        "dropped": _dropped(last),
        "frontier KL": best.quality["kl"].value,
        "its hold-out": f"{reached.value:.3f} ± {reached.standard_error:.3f}",
        "its dropped": _dropped(best),
        "its s": ours.spent.seconds,
        "tokens": tokens / published.spent.tokens,
        "time": seconds / published.spent.seconds,
        "choosing": ours.spent.choosing_seconds / ours.spent.seconds,
    }


def _dropped(plan: Evaluation) -> str:
    """Return how many attentions and MLPs a plan drops."""
    attention, mlp = plan.genome[0::2], plan.genome[1::2]
    return f"{attention.count(0)} + {mlp.count(0)}"


def _reached(contest: Contest, trace: Trace, target: float) -> tuple[float, float]:
    """Return the tokens and seconds after which the best plan was never above a KL again."""
    tokens = seconds = inf
    found = contest.holdout([step.evaluation for step in trace.steps])
    for step, measured in zip(reversed(trace.steps), reversed(found), strict=True):
        if measured.value > target:
            break
        tokens, seconds = float(step.tokens), step.seconds
    return tokens, seconds


if __name__ == "__main__":
    sys.exit(main())
