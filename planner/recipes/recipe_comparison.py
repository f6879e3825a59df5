"""Recipes compared under one budget: a table, and which one is significantly better."""

import io
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from planner.results.plan_columns import plan_row
from planner.results.significance import compare_kl
from planner.run import Run
from planner.runs.folder import COMPARISON_FILE, SETTINGS_FILE
from planner.runs.records import Evaluation
from planner.runs.resume_command import resume_command
from planner.settings.budget import Budget
from search_spaces.atomic_files import atomic_write_text
from search_spaces.errors import BudgetError, RunError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class RecipeResult:
    """One recipe's run and its best plan."""

    recipe: str
    run: Run
    plan: Evaluation | None
    """Best plan within the budget, by the search text; none where the recipe has none."""

    @property
    def kl(self) -> float:
        """KL of the best plan on held-out text; infinite where there is no such number."""
        kl = self.plan.holdout["kl"].value if self.plan else math.inf
        return kl if math.isfinite(kl) else math.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class RecipeComparison:
    """Several recipes that were run under the same budget and limits."""

    folder: Path
    budget: Budget
    results: tuple[RecipeResult, ...]
    """Lowest held-out KL first."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read a finished comparison.

        Raises:
            RunError: If the folder holds no comparison, or one that is not finished.
        """
        with Run.open(folder) as shared:
            names, settings = shared.metadata.recipes, shared.settings
        if not names or settings.budget is None:
            raise RunError(
                f"`{folder}` must hold a comparison, got none; give the --out of `planner compare`"
            )
        if not all(_is_finished(folder / name) for name in names):
            error = RunError(
                f"`{folder}` must hold a finished comparison, got one that was stopped; go on "
                "with it by the command beside this"
            )
            error.add_note(resume_command(settings, folder, names))
            raise error
        results = [_result(name, Run.open(folder / name), settings.budget) for name in names]
        by_kl = sorted(results, key=lambda result: result.kl)
        return cls(folder=folder, budget=settings.budget, results=tuple(by_kl))

    @property
    def best(self) -> RecipeResult:
        """Result of the best recipe by held-out text."""
        return self.results[0]

    @cached_property
    def table(self) -> "pd.DataFrame":
        """One row a recipe, the best on held-out text first.

        Columns: ``recipe``; those of a front for its best plan within the budget, empty where it
        has none; ``behind`` and ``behind_se``, by how much its held-out KL is higher than the
        best recipe's, paired by window, with the standard error; ``verdict`` on that; ``plans``,
        ``tokens``, ``seconds`` and ``choosing_seconds`` that its search took.
        """
        import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

        return pd.DataFrame([self._row(result) for result in self.results])

    def _row(self, result: RecipeResult) -> dict[str, object]:
        spent = result.run.spent
        row: dict[str, object] = {"recipe": result.recipe}
        if result.plan is not None:
            row |= plan_row(result.plan, result.run.dense)
        if result.plan is not None and self.best.plan is not None and result is not self.best:
            behind, verdict = compare_kl(self.best.plan.holdout["kl"], result.plan.holdout["kl"])
            row |= {"behind": behind.value, "behind_se": behind.standard_error}
            is_same = result.plan.plan_id == self.best.plan.plan_id
            row["verdict"] = "same plan" if is_same else verdict
        return row | {
            "plans": spent.plans,
            "tokens": spent.tokens,
            "seconds": spent.seconds,
            "choosing_seconds": spent.choosing_seconds,
        }

    def save(self) -> None:
        """Write ``compare.csv`` into the comparison's folder.

        Raises:
            OutputError: If the folder cannot be written to.
        """
        text = io.StringIO()
        self.table.to_csv(text, index=False)
        atomic_write_text(self.folder / COMPARISON_FILE, text.getvalue())


def _is_finished(folder: Path) -> bool:
    """Return whether the search of one recipe was begun and ended."""
    if not (folder / SETTINGS_FILE).is_file():
        return False
    with Run.open(folder) as run:
        return run.is_finished


def _result(recipe: str, run: Run, budget: Budget) -> RecipeResult:
    try:
        return RecipeResult(recipe=recipe, run=run, plan=run.best(budget))
    except BudgetError:  # no plan of its front is that small
        return RecipeResult(recipe=recipe, run=run, plan=None)
