"""A run as users see it: its front, best plans, exports; and the function that searches."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner.results.budgets import answer_budgets, plan_chooser
from planner.results.front import (
    evaluation_frame,
    front,
    front_frame,
    role_words,
    with_variants,
)
from planner.results.indicators import plan_at_knee
from planner.results.run_plan import RunPlan
from planner.results.stability import Stability, stability
from planner.runs.records import Evaluation, LayerRecovery
from planner.runs.run_store import RunStore
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings
from planner.targets.target_names import TargetName
from search_spaces.models.identity import Verify
from search_spaces.progress import NO_PROGRESS, Progress

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from planner.recovery.healing.heal_front import HealedFront
    from planner.recovery.healing.heal_run import Healed


class Run(RunStore):
    """One search on disk, open for questions: `recover`, `heal` and `export` need its model."""

    _front: tuple[int, list[Evaluation]] = (-1, [])
    """The plans of the front at a revision."""

    def front_plans(self) -> list[Evaluation]:
        """Return the non-dominated plans, most expensive first; found once a change."""
        evaluations, revision = self.landed(), self.revision
        if self._front[0] != revision:
            self._front = revision, front(evaluations, self.cost_names)
        return self._front[1]

    def front(self, budget: str | Budget | None = None) -> "pd.DataFrame":
        """Return the non-dominated plans as a table, most expensive first.

        Each is followed by its variants with recovered weights.

        Args:
            budget: Leave out the plans that exceed it.

        Raises:
            BudgetError: If the budget limits what the run did not measure.
        """
        dense = self.dense
        plans = with_variants(self.front_plans())
        frame = front_frame(plans, dense)
        if budget is not None:
            limits = Budget.of(budget)
            limits.check_measured(dense)
            frame = frame.loc[[limits.admits(plan.values, dense) for plan in plans]]
        return frame.reset_index(drop=True)

    def best(self, budget: str | Budget) -> Evaluation:
        """Return the best plan within a budget.

        Raises:
            BudgetError: If no plan of the run meets it.
        """
        return plan_chooser(self)(Budget.of(budget))

    def answers(self, budgets: Sequence[str]) -> "pd.DataFrame":
        """Return the best plan within each of many budgets, without scoring anything again.

        Args:
            budgets: Each as in `best`, or a bare value such as ``0.5x``, which limits the run's
                first cost.

        Returns:
            One row a budget, in this order: ``budget``; the columns of `front` for the best plan;
            ``refusal``: why there is none, if no plan meets the budget or it cannot be parsed.
        """
        dense, choose = self.dense, plan_chooser(self)
        return answer_budgets(budgets, self.cost_names[0], dense, choose)

    def knee(self) -> Evaluation | None:
        """Return the plan of the front beyond which further savings cost most.

        Returns:
            `None` if the front is too short or too straight to have a knee.
        """
        return plan_at_knee(self.front_plans(), self.cost_names, self.dense)

    def roles(self, plan_id: str) -> list[str]:
        """Return what a plan is besides one of many, in words, such as the knee of the front."""
        knee = self.knee()
        return role_words(
            is_on_front=any(plan.plan_id == plan_id for plan in self.front_plans()),
            is_knee=knee is not None and knee.plan_id == plan_id,
            baselines=[name for name, plan in self.baselines().items() if plan.plan_id == plan_id],
        )

    def stability(self) -> Stability:
        """Compare the front on its search text with a fresh draw of that text.

        Raises:
            RunError: If the front has too few plans, or is not re-scored on fresh text.
        """
        return stability(self.front_plans())

    def evaluations(self, after: int = 0) -> "pd.DataFrame":
        """Return every plan that was scored as a table, in the order in which they landed.

        Args:
            after: Only those that landed or changed after this revision.

        Returns:
            The columns of `front`, and before them ``round``: the searcher's batch, or -1 for a
            baseline; ``windows`` of search text that it was scored on; ``failure``: why it has no
            quality; ``created_at``.
        """
        return evaluation_frame(self.landed(after), self.dense)

    def plan(self, plan_id: str) -> RunPlan:
        """Return a plan that was scored, open for questions.

        Raises:
            PlanError: If the run has no such plan.
        """
        return RunPlan(self, plan_id)

    def plot(
        self,
        budget: str | Budget | None = None,
        *,
        x: str | None = None,
        y: str = "kl",
        colour: str | None = None,
    ) -> "Figure":
        """Return the front as a Plotly figure, among all plans that were scored.

        Args:
            budget: What it admits is shaded, and the best plan within it is marked.
            x: A cost such as ``params``, its share of the dense model's such as ``params_x``, or
                a quality such as ``perplexity``; by default the share of the first cost searched.
            y: As ``x``.
            colour: As ``x``.

        Raises:
            MissingExtraError: If Plotly is not installed.
            SettingsError: If an axis is none.
            BudgetError: If no plan of the run meets the budget.
        """
        from planner.figures.front_figure import front_figure
        from planner.figures.front_points import FrontPoints
        from planner.figures.front_view import FrontView

        name = self.folder.name
        view = FrontView(
            x=x or f"{self.cost_names[0]}_x",
            y=y,
            colour=colour,
            budget=Budget.of(budget) if budget is not None else None,
            best=(name, self.best(budget).plan_id) if budget is not None else None,
        )
        return front_figure([FrontPoints.of(self, name)], view)

    def recover(
        self,
        plan: str,
        recovery: LayerRecovery = "refit",
        *,
        tokens: int | None = None,
        trust_remote_code: bool = False,
        progress: Progress = NO_PROGRESS,
    ) -> Evaluation:
        """Fit a plan's weights to the dense model, and keep them as a variant of the plan.

        Args:
            plan: The plan's id.
            recovery: ``refit`` solves its output projections again; ``block`` trains whole layers
                from there on.
            tokens: Of the run's calibration text to fit to, at most; by default all of it.
            trust_remote_code: Run Python code that comes with the model, whatever the run did.
            progress: Receives stages and progress.

        Returns:
            The plan with what its recoveries came to; `Evaluation.variant` is the one with
            recovered weights, if they are better, which `export` takes by its name.

        Raises:
            PlanError: If the run has no such plan.
            RunError: If another process searches in the run's folder.
            DataError: If there is too little calibration text.
        """
        from planner.recovery.recover_run import RecoverRequest, recover_run

        request = RecoverRequest(
            plan=plan,
            recovery=recovery,
            tokens=tokens,
            trust_remote_code=trust_remote_code,
        )
        return recover_run(self.folder, request, progress)

    def heal(
        self,
        plan: str | None = None,
        *,
        budget: str | None = None,
        front: bool = False,
        out: str | Path | None = None,
        progress: Progress = NO_PROGRESS,
        **options: Any,
    ) -> "Healed | HealedFront":
        """Train a plan, or all plans of the front at once, to predict as the dense model does.

        Args:
            plan: A plan's id, which stands for its best variant, or the name of a variant.
            budget: Instead of a plan: take the best within it.
            front: Instead of both: train all plans of the front at once.
            out: Write the healed plan as an export too.
            progress: Receives stages and progress.
            options: Any other field of `HealSettings`, such as ``minutes``.

        Returns:
            What it came to, with the learning curve; what was better is a variant in the run.

        Raises:
            InputError: If the user must correct something, such as a plan that is not there.
        """
        from planner.export.healing.heal_source import HealRequest, heal
        from planner.settings.heal import HealSettings

        settings = HealSettings.checked(model=str(self.folder), **options)
        place = None if out is None else Path(out)
        request = HealRequest(plan=plan, budget=budget, front=front, out=place)
        return heal(settings, request, progress)

    def export(
        self,
        plan: str,
        out: str | Path,
        *,
        format: TargetName = "hf",  # noqa: A002  (its name on the command line)
        gguf_type: str | None = None,
        trust_remote_code: bool = False,
        verify: Verify = "sample",
    ) -> Path:
        """Export a plan for a runtime, and prove it there.

        Args:
            plan: The plan's id, the name of a variant such as ``a1b2c3d4e5+refit``, or a plan file
                of the same model.
            out: The folder to make.
            format: ``hf`` for transformers and vLLM, ``gguf`` for llama.cpp, ``onnx``, ``deci``.
            gguf_type: Number format of a GGUF file, such as ``Q8_0``.
            trust_remote_code: Run Python code that comes with the model, whatever the run did.
            verify: How the model's weights are compared with the run's.

        Returns:
            The folder.
        """
        from planner.export.choose import Request
        from planner.export.run_exports import export_from_run

        request = Request(plan=plan, format=format, gguf_type=gguf_type)
        request.check()
        return export_from_run(
            self,
            plan,
            Path(out),
            choice=request.choice,
            trust_remote_code=trust_remote_code,
            verify=verify,
        )


def search(
    model: str,
    *,
    out: str | Path,
    resume: bool = False,
    progress: Progress = NO_PROGRESS,
    **options: Any,
) -> Run:
    """Search a model and leave a run on disk.

    Args:
        model: A HuggingFace folder, a hub name or a ``.gguf`` file.
        out: The run's folder, new or empty; with ``resume`` the folder of a run.
        resume: Resume the run in ``out``.
        progress: Receives stages and progress.
        options: Any other field of `SearchSettings`.

    Returns:
        The finished run, open to be read.

    Raises:
        InputError: If the user must correct something.
    """
    from planner.searching.search_model import run_search

    settings = SearchSettings.checked(model=model, **options)
    run_search(settings, Path(out), resume=resume, progress=progress)
    return Run.open(Path(out))
