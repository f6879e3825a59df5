"""What figures of a front show of a run: its plans, baselines and knee, read once a change."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import COST_KINDS, METRICS, metric_names
from planner.figures.figure_style import plain
from planner.results.front import evaluation_frame, front, with_variants
from planner.results.indicators import plan_at_knee
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore

if TYPE_CHECKING:
    import pandas as pd

PlanKind = Literal["front", "recovered", "dominated", "partial", "failed"]
"""On the front; a plan with recovered weights; dominated; scored on some of the windows only; or
without quality."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrontPoints:
    """The plans of a run as points."""

    name: str
    """Of the run, as pages and legends show it."""
    frame: "pd.DataFrame"
    """One row a plan: the columns of `Run.evaluations`, and ``kind``, a `PlanKind`."""
    dense: Mapping[str, float]
    """The dense model's costs."""
    cost_names: tuple[str, ...]
    """Those that the search minimises."""
    baselines: Mapping[str, str]
    """The plan id of each baseline, by name."""
    knee: str | None
    """The plan at the knee of the front."""
    revision: int
    """Of the youngest evaluation among them."""

    @classmethod
    def of(cls, run: RunStore, name: str) -> Self:
        """Return the plans of a run.

        Raises:
            RunError: If the search has not begun to score, or what it scored is damaged.
        """
        evaluations = run.landed()
        frame = evaluation_frame(with_variants(evaluations), run.dense)
        return cls._of_frame(run, name, evaluations, frame)

    def updated(self, run: RunStore) -> Self:
        """Return these points with what landed or changed since: the same if nothing did.

        Args:
            run: That they are of.
        """
        evaluations = run.landed()
        younger = [each for each in evaluations if each.revision > self.revision]
        if not younger and dict(run.metadata.baselines or {}) == self.baselines:
            return self
        frame = self.frame
        if younger:
            import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

            news = evaluation_frame(with_variants(younger), run.dense)
            changed = {plan.plan_id for plan in younger}  # whose variants may be no more
            kept = frame.loc[[n.partition("+")[0] not in changed for n in frame["plan_id"]]]
            frame = pd.concat([kept, news], ignore_index=True)
        return self._of_frame(run, self.name, evaluations, frame)

    @classmethod
    def _of_frame(
        cls, run: RunStore, name: str, evaluations: Sequence[Evaluation], frame: "pd.DataFrame"
    ) -> Self:
        """Return the plans of a frame, among all that had landed when it was made."""
        # genomes that come to the same plan are one point
        frame = frame.drop_duplicates("plan_id", keep="last", ignore_index=True)
        plans = front(evaluations, run.cost_names)
        knee = plan_at_knee(plans, run.cost_names, run.dense)
        on_front = {plan.plan_id for plan in plans}
        return cls(
            name=name,
            frame=frame.assign(kind=_kinds(frame, on_front)),
            dense=run.dense,
            cost_names=run.cost_names,
            baselines=dict(run.metadata.baselines or {}),
            knee=knee.plan_id if knee else None,
            revision=max((each.revision for each in evaluations), default=0),
        )

    @cached_property
    def shown_costs(self) -> tuple[str, ...]:
        """Costs that tell plans apart: those that count zeros only where there are some."""
        same = "nonzero" in self.dense and bool(
            (self.values("nonzero") == self.values("params")).all()
        )
        hidden = metric_names("sparse") if same else ()
        return tuple(
            name for name in metric_names(*COST_KINDS) if name in self.dense and name not in hidden
        )

    @cached_property
    def customdata(self) -> NDArray[np.object_]:
        """``(plans, 2)``: the run's name and the plan's id, as every point carries them."""
        ids = [plain(plan_id) for plan_id in self.frame["plan_id"]]
        return np.array([[self.name] * len(ids), ids], dtype=object).T

    @cached_property
    def _rows_by_plan(self) -> Mapping[str, int]:
        return {plan_id: row for row, plan_id in enumerate(self.frame["plan_id"])}

    def rows_of_kind(self, *kinds: PlanKind) -> NDArray[np.intp]:
        """Return the rows of the plans of some kinds."""
        return np.flatnonzero(self.frame["kind"].isin(kinds))

    def rows_of_plans(self, plan_ids: Sequence[str]) -> NDArray[np.intp]:
        """Return the rows of those of some plans that the run has."""
        found = (self._rows_by_plan.get(plan_id) for plan_id in plan_ids)
        return np.array([row for row in found if row is not None], dtype=np.intp)

    @cached_property
    def notes(self) -> Mapping[int, str]:
        """What is shown of a plan under the pointer, by row: of the front and of baselines."""
        rows = [
            *self.rows_of_kind("front", "recovered"),
            *self.rows_of_plans(tuple(self.baselines.values())),
        ]
        records = self.frame.iloc[rows].to_dict("records")
        return {int(row): self._note(record) for row, record in zip(rows, records, strict=True)}

    def _note(self, plan: Mapping[Hashable, Any]) -> str:
        names = [name for name, plan_id in self.baselines.items() if plan_id == plan["plan_id"]]
        lines = [f"<b>{' · '.join(map(plain, [plan['plan_id'], self.name, *names]))}</b>"]
        for name in self.shown_costs:
            share = f" · {plan[f'{name}_x']:.3f}×" if self.dense[name] else ""
            lines.append(f"{METRICS[name].label}: {METRICS[name].amount(plan[name])}{share}")
        for column, text in (("kl", "search"), ("fresh_kl", "fresh"), ("holdout_kl", "held-out")):
            if math.isfinite(plan.get(column, math.nan)):
                lines.append(f"KL, {text}: {plan[column]:.3f} ± {plan[f'{column}_se']:.3f} (s.e.)")
        return "<br>".join(lines)

    def values(self, column: str) -> NDArray[np.float64]:
        """Return a column of numbers, ``(plans,)``; none are numbers if it was not measured."""
        if column not in self.frame:
            return np.full(len(self.frame), np.nan)
        return self.frame[column].to_numpy(dtype=np.float64)


def _kinds(frame: "pd.DataFrame", on_front: set[str]) -> NDArray[np.object_]:
    is_sound = frame["failure"].to_numpy() == ""
    windows = frame["windows"].to_numpy()
    most = windows[is_sound].max(initial=0)
    kinds = np.where(windows < most, "partial", "dominated").astype(object)
    kinds[~is_sound] = "failed"
    kinds[["+" in plan_id for plan_id in frame["plan_id"]]] = "recovered"
    kinds[frame["plan_id"].isin(on_front).to_numpy()] = "front"
    return kinds
