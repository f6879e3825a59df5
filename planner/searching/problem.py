"""What a search is asked: which costs, within what limits, how far down."""

from collections.abc import Mapping
from dataclasses import replace

from planner.preparation.prepared_model import PreparedModel
from planner.runs.run_store import RunStore
from planner.searchers.problem.domain import Domain
from planner.settings.budget import Budget, relative_cost
from planner.settings.search import SearchSettings
from search_spaces.errors import BudgetError

_LOOK_BELOW = 0.25
"""How far under a budget a search looks, as a share of what the budget cuts away."""


_LOOK_JUST_BELOW = 0.05
"""The same where only the budget matters: as far as steps of levels may miss it."""


def asked_budget(settings: SearchSettings) -> Budget:
    """Give the budget of settings, without limits where there is none.

    Raises:
        BudgetError: It breaks the grammar.
    """
    return Budget(limits=()) if settings.budget is None else Budget.parse(settings.budget)


def check_budget(settings: SearchSettings) -> None:
    """Refuse a budget that breaks the grammar, or lacks a cost where one is needed.

    Raises:
        BudgetError: It does.
    """
    budget = asked_budget(settings)
    if budget.cost_names:
        return
    if settings.focus == "budget":
        asker = "`--focus budget`"
    elif settings.searcher in ("evopress", "multipruner"):
        asker = f"`--searcher {settings.searcher}`"
    else:
        return
    raise BudgetError(
        f"{asker} needs a budget that limits a cost, got "
        f"{settings.budget or 'none'}; set one such as `--budget 'params<=0.7x'`"
    )


def default_costs(settings: SearchSettings) -> tuple[str, ...]:
    """Give what is traded against quality where the budget names no cost."""
    return ("nonzero",) if settings.choices.sparse else ("params",)


def search_domain(run: RunStore, prepared: PreparedModel, budget: Budget) -> Domain:
    """Tell the searcher what of the costs is of interest."""
    costs, only = prepared.dense.costs.dense(), run.settings.focus == "budget"
    limits = {name: budget.share(name, costs) for name in run.get_meta("cost_names")}
    floor = _cost_floor(next(iter(limits)), budget, costs, prepared.smallest(), only_budget=only)
    domain = prepared.domain(limits, floor, only_budget=only)
    # another cost's limit may take all plans that meet it below
    lowest = float(domain.cost(domain.uniform_within()[None])[0])
    return replace(domain, cost_floor=min(floor, lowest)) if only else domain


def allowed_costs(domain: Domain) -> tuple[float, ...]:
    """Give what the budget allows of each cost, where nothing else matters."""
    return tuple(map(float, domain.allowed)) if domain.only_budget else ()


def _cost_floor(
    name: str,
    budget: Budget,
    dense: Mapping[str, float],
    smallest: Mapping[str, float],
    *,
    only_budget: bool,
) -> float:
    """Give the lowest share of a cost worth looking at: a little below the budget."""
    lowest = relative_cost(name, smallest[name], dense)
    share = budget.share(name, dense)
    if share is None:
        return lowest
    below = _LOOK_JUST_BELOW if only_budget else _LOOK_BELOW
    return max(lowest, share - below * (1.0 - share))
