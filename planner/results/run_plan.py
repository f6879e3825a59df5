"""One plan of a run: what it keeps, what it costs, and how well it does."""

from typing import TYPE_CHECKING

from evaluators.metric import COST_KINDS, metric_names
from planner.results.plan_layers import layer_frame
from planner.runs.records import plan_and_recovery
from planner.runs.resume_command import resume_command
from planner.runs.run_store import RunStore
from planner.runs.space_description import read_space
from planner.settings.budget import relative_cost
from search_spaces.errors import PlanError, RunError, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from evaluators.metric import Measurement
    from planner.runs.records import Evaluation


class RunPlan:
    """A plan that a run scored, open for questions that its folder alone answers.

    Args:
        run: The run.
        plan_id: The plan's id, or the name of a variant such as ``a1b2c3d4e5+refit``.

    Raises:
        PlanError: If the run has no such plan.
    """

    def __init__(self, run: RunStore, plan_id: str) -> None:
        evaluation = run.find_plan(plan_id)
        if evaluation is None:
            raise PlanError(
                f"a plan must be named by its id in this run, got {quoted(plan_id)}; "
                f"`planner front {run.folder}` lists the ids"
            )
        self.run = run
        """That scored it."""
        self.evaluation: Evaluation = evaluation
        """Its genome, scores and costs."""

    @property
    def plan_id(self) -> str:
        """The plan's id."""
        return self.evaluation.plan_id

    @property
    def quality(self) -> "Mapping[str, Mapping[str, Measurement]]":
        """What was measured of its predictions: by text, as `scores` names it, and metric."""
        found = self.evaluation
        return {"search": found.quality, "fresh": found.fresh, "holdout": found.holdout}

    def layers(self) -> "pd.DataFrame":
        """Return what it keeps of each layer, one row a component.

        Columns: ``layer``; ``component``; ``kept``, ``of`` and ``unit``: how many of what;
        ``share``; ``options``: how they are stored and run, where it is not as in the dense model.

        Raises:
            RunError: If the folder does not say what it chooses among.
        """
        try:
            space = read_space(self.run.folder, self.run.metadata.space_digest)
            return layer_frame(space, self.evaluation.genome)
        except RunError as error:
            error.add_note(resume_command(self.run.settings, self.run.folder))
            raise

    def scores(self) -> "pd.DataFrame":
        """Return its quality, one row a text and metric.

        Columns: ``split``: ``search``, ``fresh`` or ``holdout``; ``metric``; ``value``;
        ``standard_error``.
        """
        import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

        rows = [
            {
                "split": split,
                "metric": name,
                "value": measurements[name].value,
                "standard_error": measurements[name].standard_error,
            }
            for split, measurements in self.quality.items()
            for name in filter(measurements.__contains__, metric_names("quality"))
        ]
        return pd.DataFrame(rows, columns=["split", "metric", "value", "standard_error"])

    def costs(self) -> "pd.DataFrame":
        """Return its costs, one row each.

        Columns: ``metric``; ``value`` in the metric's own unit; ``share`` of the dense model's.
        """
        import pandas as pd  # noqa: PLC0415  (as above)

        costs, dense = self.evaluation.costs, self.run.dense
        names = [name for name in metric_names(*COST_KINDS) if name in costs]
        rows = [
            {"metric": n, "value": costs[n], "share": relative_cost(n, costs[n], dense)}
            for n in names
        ]
        return pd.DataFrame(rows, columns=["metric", "value", "share"])

    def to_json(self) -> str:
        """Return the plan in whole, as ``--plan FILE`` of an export takes it.

        Raises:
            RunError: If the run did not store it: only plans that were on its front are.
        """
        plan_id, _ = plan_and_recovery(self.plan_id)  # recovered weights are in no plan
        plan = self.run.stored_plan(plan_id)
        if plan is None:
            raise RunError(
                f"a plan in whole must be one that was on the front, got {self.plan_id}; "
                f"`planner export {self.run.folder} --plan {self.plan_id}` makes it from the "
                "model"
            )
        return plan.to_json()
