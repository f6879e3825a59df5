"""What several recipes found under one budget: a table, and who is better beyond the error."""

import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from planner.results.front import front_row
from planner.results.significance import judged
from planner.run import Run
from planner.runs.folder import COMPARISON_FILE
from planner.runs.records import Evaluation
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import BudgetError, RunError

if TYPE_CHECKING:
    import pandas as pd

RECIPES_KEY = "recipes"
"""Under which the run that the recipes share keeps their names."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one recipe found."""

    recipe: str
    run: Run
    plan: Evaluation | None
    """Its best plan within the budget, by the text searched on; none where it has none."""

    @property
    def kl(self) -> float:
        """Of the best plan on hold-out text; infinite where there is no such number."""
        kl = self.plan.holdout["kl"].value if self.plan else math.inf
        return kl if math.isfinite(kl) else math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Several recipes that were run under the same budget and limits."""

    folder: Path
    budget: str
    found: tuple[Found, ...]
    """Lowest hold-out KL first."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a comparison that is finished.

        Raises:
            RunError: No comparison there, or one that is not finished.
        """
        with Run.open(folder) as shared:
            names, budget = shared.get_meta(RECIPES_KEY), shared.settings.budget
        if not names or budget is None:
            raise RunError(
                f"`{folder}` must hold a comparison, got none; give the --out of `planner compare`"
            )
        found = [_found(name, Run.open(folder / name), budget) for name in names]
        return cls(
            folder=folder, budget=budget, found=tuple(sorted(found, key=lambda each: each.kl))
        )

    @property
    def best(self) -> Found:
        """What the best recipe found, by hold-out text."""
        return self.found[0]

    @cached_property
    def table(self) -> "pd.DataFrame":
        """One row a recipe, the best on hold-out text first.

        Columns: ``recipe``; those of a front for its best plan within the budget, empty where it
        has none; ``behind`` and ``behind_se``, by how much its hold-out KL is higher than the
        best recipe's, paired by window; ``verdict`` on that; ``plans``, ``tokens``, ``seconds``
        and ``choosing_seconds`` that its search took.
        """
        import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

        return pd.DataFrame([self._row(found) for found in self.found])

    def _row(self, found: Found) -> dict[str, object]:
        spent = found.run.spent
        row: dict[str, object] = {"recipe": found.recipe}
        if found.plan is not None:
            row |= front_row(found.plan, found.run.dense)
        if found.plan is not None and self.best.plan is not None and found is not self.best:
            behind, verdict = judged(self.best.plan.holdout["kl"], found.plan.holdout["kl"])
            row |= {"behind": behind.value, "behind_se": behind.standard_error}
            row["verdict"] = (
                "same plan" if found.plan.plan_id == self.best.plan.plan_id else verdict
            )
        return row | {
            "plans": spent.plans,
            "tokens": spent.tokens,
            "seconds": spent.seconds,
            "choosing_seconds": spent.choosing_seconds,
        }

    def save(self) -> None:
        """Write ``compare.csv`` into the comparison's folder.

        Raises:
            OutputError: The folder cannot be written to.
        """
        text = io.StringIO()
        self.table.to_csv(text, index=False)
        atomic_write_text(self.folder / COMPARISON_FILE, text.getvalue())


def _found(recipe: str, run: Run, budget: str) -> Found:
    if not run.is_finished:
        raise RunError(
            f"`{run.folder}` must hold a finished search, got one that was stopped; "
            "go on with `planner compare … --resume`"
        )
    try:
        return Found(recipe=recipe, run=run, plan=run.best(budget))
    except BudgetError:  # it came to no plan that small
        return Found(recipe=recipe, run=run, plan=None)
