"""The best plans of one run within many budgets, without scoring anything again."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from planner.results.front import best_within
from planner.results.plan_columns import plan_row
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget
from planner.settings.signs import plain_signs
from search_spaces.errors import BudgetError

if TYPE_CHECKING:
    import pandas as pd

_OPERATORS = "<>="
"""Characters of a budget that names its metric, unlike a bare value."""


def split_budgets(text: str) -> list[str]:
    """Split one line into budgets, such as ``0.5x,0.6x`` or ``size<=180MB``.

    Commas separate them; if there is a semicolon, semicolons do, so that each budget may hold
    several limits.

    >>> split_budgets("0.5x, 0.6x")
    ['0.5x', '0.6x']
    >>> split_budgets("size<=180MB,macs<=0.5x; 0.6x")
    ['size<=180MB,macs<=0.5x', '0.6x']

    Raises:
        BudgetError: If there is none in it.
    """
    text = plain_signs(text)
    separator = ";" if ";" in text else ","
    # each on one line, whatever white space is in it
    budgets = [" ".join(budget.split()) for budget in text.split(separator) if budget.strip(" ,")]
    if not budgets:
        raise BudgetError(
            f"`--budgets` must name one budget or more, got {text!r}; "
            "give some such as `--budgets 0.5x,0.6x`"
        )
    return budgets


def named_budget(text: str, first_cost: str) -> str:
    """Return a budget that names what it limits: a bare value limits the first cost.

    >>> named_budget("0.5x", "params"), named_budget("size≤180MB", "params")
    ('params<=0.5x', 'size≤180MB')
    """
    return text if set(plain_signs(text)) & set(_OPERATORS) else f"{first_cost}<={text}"


def plan_chooser(run: RunStore) -> Callable[[Budget], Evaluation]:
    """Return a function that chooses the best plan within a budget, and reads the run only once.

    The function raises `BudgetError` if no plan of the run meets a budget.
    """
    evaluations, dense = run.landed(), run.dense
    smallest, cost_names = run.smallest, run.cost_names

    def choose(budget: Budget) -> Evaluation:
        budget.check_reachable(dense, smallest)
        return best_within(evaluations, budget, dense, cost_names)

    return choose


def answer_budgets(
    budgets: Sequence[str],
    first_cost: str,
    dense: Mapping[str, float],
    choose: Callable[[Budget], Evaluation],
) -> "pd.DataFrame":
    """Return one row a budget: its best plan, or why there is none.

    Args:
        budgets: ``NAME<=VALUE`` terms, comma separated; or a bare value.
        first_cost: What a bare value limits.
        dense: The dense model's costs.
        choose: Returns the best plan within a budget, or raises `BudgetError`.

    Returns:
        ``budget``; the columns of a front; ``refusal``, empty if there is a plan.
    """
    import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

    rows: list[dict[str, object]] = []
    for text in budgets:
        named = named_budget(text, first_cost)
        try:
            row = plan_row(choose(Budget.parse(named)), dense)
            rows.append({"budget": named, **row, "refusal": ""})
        except BudgetError as error:
            rows.append({"budget": named, "plan_id": "", "refusal": str(error)})
    frame = pd.DataFrame(rows, columns=None if rows else ["budget", "plan_id", "refusal"])
    refusals = frame.pop("refusal")  # to come last
    return frame.assign(refusal=refusals)
