"""Many budgets answered from one run, without scoring anything anew."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from planner.results.front import best_within, front_row
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget, check_reachable
from search_spaces.errors import BudgetError

if TYPE_CHECKING:
    import pandas as pd

_OPERATORS = "<>=≤≥"
"""What a budget holds that names its metric, and a bare value does not."""


def listed_budgets(text: str) -> list[str]:
    """Read several budgets from one line, such as ``0.5x,0.6x`` or ``size<=180MB``.

    Commas part them; where there is a semicolon, semicolons do, so that each may hold several
    limits.

    Raises:
        BudgetError: There is none in it.
    """
    separator = ";" if ";" in text else ","
    budgets = [budget.strip() for budget in text.split(separator) if budget.strip()]
    if not budgets:
        raise BudgetError(
            f"`--budgets` must name one budget or more, got {text!r}; "
            "give some such as `--budgets 0.5x,0.6x`"
        )
    return budgets


def chooser(run: RunStore) -> Callable[[Budget], Evaluation]:
    """Give what chooses the plan to take under a budget; the run is read but once for it.

    It raises `BudgetError` where no plan of the run meets a budget.
    """
    evaluations, dense, smallest = run.evaluations(), run.dense, run.get_meta("smallest")

    def choose(budget: Budget) -> Evaluation:
        check_reachable(budget, dense, smallest)
        return best_within(evaluations, budget, dense, run.get_meta("cost_names"))

    return choose


def answered(
    budgets: Sequence[str],
    first_cost: str,
    dense: Mapping[str, float],
    choose: Callable[[Budget], Evaluation],
) -> "pd.DataFrame":
    """Give one row a budget: the plan to take, or why there is none.

    Args:
        budgets: ``NAME<=VALUE`` terms, comma separated; or a bare value.
        first_cost: What a bare value limits.
        dense: The dense model's costs.
        choose: Gives the plan to take, or raises `BudgetError`.

    Returns:
        ``budget``; the columns of a front; ``refusal``, empty where a plan was found.
    """
    import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

    rows: list[dict[str, object]] = []
    for text in budgets:
        named = text if set(text) & set(_OPERATORS) else f"{first_cost}<={text}"
        try:
            found = front_row(choose(Budget.parse(named)), dense)
            rows.append({"budget": named, **found, "refusal": ""})
        except BudgetError as error:
            rows.append({"budget": named, "plan_id": "", "refusal": str(error)})
    frame = pd.DataFrame(rows, columns=None if rows else ["budget", "plan_id", "refusal"])
    last = frame.pop("refusal")
    return frame.assign(refusal=last)
