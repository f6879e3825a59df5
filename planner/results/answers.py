"""What a run answers to a budget: its best plan, in words, and the plans that are as good."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evaluators.metric import METRICS, Measurement, front_metrics
from planner.results.front import best_of, front, within
from planner.results.indicators import plan_at_knee
from planner.results.significance import compare_kl
from planner.runs.records import RESCORE_SPLITS, Evaluation
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget, Limit, relative_cost


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The best plan of a run within a budget."""

    budget: Budget
    plan: Evaluation
    equals: tuple[Evaluation, ...]
    """Other plans within the budget that are not significantly worse, though each costs less in
    something; most expensive first. None where the budget limits quality alone."""
    cost_names: tuple[str, ...]
    """Costs that are told of it: those that the budget limits, or else the search minimised."""
    dense: Mapping[str, float] = field(repr=False)
    """The dense model's costs."""

    def sentence(self, measured: Sequence[str] = ()) -> str:
        """Return the answer in words.

        Args:
            measured: What else is known of the plan, such as its speed where it is served.
        """
        text, quality = settled_quality(self.plan)
        told = [*map(self._cost, self.cost_names), *measured, f"KL {quality['kl']} on {text} text"]
        told += [
            f"{metric.exponential} {metric.amount(quality[metric.name].value)}"
            for metric in front_metrics()
            if metric.exponential and metric.name in quality
        ]
        return f"plan {self.plan.plan_id}: {', '.join(told)}{self._of_equals()}"

    def _cost(self, name: str) -> str:
        """Return what a cost is, as a share of the dense model's and in its own unit."""
        value = self.plan.costs[name]
        share = f"{relative_cost(name, value, self.dense):.3f}× {name}"
        is_absolute = any(each.metric == name and not each.relative for each in self.budget.limits)
        return f"{share} ({METRICS[name].amount(value)})" if is_absolute else share

    def _of_equals(self) -> str:
        if not self.equals:
            return ""
        count = len(self.equals)
        plans = "1 other plan is" if count == 1 else f"{count} other plans are"
        return f"; {plans} not significantly worse"


def answer_of(
    run: RunStore, budget: Budget | str, front_plans: Sequence[Evaluation] | None = None
) -> Answer:
    """Return what a run answers to a budget.

    Plans are compared on held-out text where they were scored on that, and else on the search
    text, on which the best one was chosen.

    Args:
        run: The run.
        budget: Limits.
        front_plans: The front of the run, if the caller has it: the best plan within limits on
            what the search minimised is on it, so that nobody looks through all plans.

    Raises:
        BudgetError: If no plan of the run meets it.
    """
    limits, dense, cost_names = Budget.of(budget), run.dense, run.cost_names
    limits.check_reachable(dense, run.smallest)
    is_of_front = {limit.metric for limit in limits.limits} <= {"kl", *cost_names}
    known = front_plans if front_plans is not None and is_of_front else ()
    fitting = [plan for plan in known if limits.admits(plan.values, dense)]
    if not fitting:
        fitting = within(run.landed(), limits, dense)  # or says what the nearest of all reaches
    best = best_of(fitting, limits, cost_names)
    rivals = front(fitting, cost_names) if limits.cost_names else []
    rivals = [plan for plan in rivals if plan.plan_id != best.plan_id]
    limited = tuple(limit.metric for limit in limits.costs_only().limits)
    return Answer(
        budget=limits,
        plan=best,
        equals=tuple(plan for plan in rivals if not _is_worse(plan, best)),
        cost_names=limited or cost_names,
        dense=dense,
    )


def own_budget(run: RunStore) -> Budget | None:
    """Return the budget that a run is to be judged by: its own, or what its knee plan costs.

    Returns:
        `None` if it has neither yet.
    """
    within_budget: str | Budget | None = run.settings.budget or run.metadata.baselines_within
    if within_budget:
        return Budget.of(within_budget)
    names, dense = run.cost_names, run.dense
    knee = plan_at_knee(front(run.landed(), names), names, dense)
    if knee is None:
        return None
    shares = {name: relative_cost(name, knee.costs[name], dense) for name in names}
    limits = (Limit(metric=name, value=share, relative=True) for name, share in shares.items())
    return Budget(limits=tuple(limits))


def settled_quality(plan: Evaluation) -> tuple[str, Mapping[str, Measurement]]:
    """Return the quality of a plan on the text that says most of it, and the name of that.

    It is held-out text, on which nothing was decided, once the plan was scored there.
    """
    if plan.holdout:
        return RESCORE_SPLITS["holdout"], plan.holdout
    return "search", plan.quality


def _is_worse(plan: Evaluation, best: Evaluation) -> bool:
    """Return whether a plan is significantly worse than another."""
    both = plan.holdout and best.holdout
    ours, theirs = (best.holdout, plan.holdout) if both else (best.quality, plan.quality)
    return compare_kl(ours["kl"], theirs["kl"])[1] == "better"
