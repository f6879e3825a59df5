"""The problem of a search: which costs it minimises, within what limits, how far down."""

from collections.abc import Mapping
from dataclasses import replace

from planner.preparation.prepared_model import PreparedModel
from planner.runs.run_store import RunStore
from planner.searchers.problem.domain import Domain
from planner.settings.budget import Budget, relative_cost
from planner.settings.search import SearchSettings
from search_spaces.errors import BudgetError

_LOOK_BELOW = 0.25
"""How far below a budget a search looks, as a share of what the budget removes."""
_LOOK_JUST_BELOW = 0.05
"""The same if only the budget matters: as far as the steps between levels may miss it."""


def budget_of(settings: SearchSettings) -> Budget:
    """Return the budget of settings; if they name none, one without limits.

    Raises:
        BudgetError: If it breaks the grammar.
    """
    return Budget(limits=()) if settings.budget is None else Budget.parse(settings.budget)


def check_budget(settings: SearchSettings) -> None:
    """Refuse a budget that breaks the grammar, or limits no cost where a limit is needed.

    Raises:
        BudgetError: If it does.
    """
    budget = budget_of(settings)
    if budget.cost_names:
        return
    if settings.focus == "budget":
        option = "`--focus budget`"
    elif settings.searcher in ("evopress", "multipruner"):
        option = f"`--searcher {settings.searcher}`"
    else:
        return
    raise BudgetError(
        f"{option} needs a budget that limits a cost, got "
        f"{settings.budget or 'none'}; set one such as `--budget 'params<=0.7x'`"
    )


def default_costs(settings: SearchSettings) -> tuple[str, ...]:
    """Return what is traded against quality if the budget names no cost."""
    return ("nonzero",) if settings.choices.sparse else ("params",)


def search_domain(run: RunStore, prepared: PreparedModel, budget: Budget) -> Domain:
    """Return the domain of a search: levels, costs, and which costs are of interest."""
    costs, only_budget = prepared.dense.costs.dense(), run.settings.focus == "budget"
    limits = {name: budget.share(name, costs) for name in run.cost_names}
    first_cost, smallest = next(iter(limits)), prepared.smallest_costs()
    floor = _cost_floor(first_cost, budget, costs, smallest, only_budget=only_budget)
    domain = prepared.make_domain(limits, floor, only_budget=only_budget)
    # plans within another cost's limit may all lie below this floor
    lowest = float(domain.cost(domain.uniform_within()[None])[0])
    return replace(domain, cost_floor=min(floor, lowest)) if only_budget else domain


def allowed_costs(domain: Domain) -> tuple[float, ...]:
    """Return the share the budget allows of each cost if nothing else matters, else nothing."""
    return tuple(map(float, domain.allowed)) if domain.only_budget else ()


def _cost_floor(
    name: str,
    budget: Budget,
    dense: Mapping[str, float],
    smallest: Mapping[str, float],
    *,
    only_budget: bool,
) -> float:
    """Return the lowest share of a cost worth looking at: a little below the budget."""
    lowest = relative_cost(name, smallest[name], dense)
    share = budget.share(name, dense)
    if share is None:
        return lowest
    below = _LOOK_JUST_BELOW if only_budget else _LOOK_BELOW
    return max(lowest, share - below * (1.0 - share))
