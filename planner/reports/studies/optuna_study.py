"""A run as a study of Optuna: each plan a trial."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from planner.results.front import evaluation_frame, fully_scored
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from planner.runs.space_description import read_space
from search_spaces.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is written."""

    name: str
    metric_names: tuple[str, ...]
    """Of the values, all minimised."""
    trials: Sequence[FrozenTrial]
    """In the order in which plans landed."""

    def refuse_twin(self, place: str) -> SettingsError:
        """Return the refusal of a place that has a study of this name."""
        return SettingsError(
            f"a study must have a name of its own in `{place}`, got `{self.name:.60}`, which is "
            "there; give another `--name`"
        )


def study_of(run: RunStore, name: str) -> Study:
    """Return a run as a study.

    The parameters of a trial are the levels of the sites, its values the KL and the costs that
    the search minimised; what else is known of the plan are user attributes. A plan that was given
    up early is a pruned trial, one without quality a failed one.

    Raises:
        RunError: If the run has not begun to score, or does not say what it chooses among.
    """
    evaluations, cost_names = run.landed(), run.cost_names
    space = read_space(run.folder, run.metadata.space_digest)
    sites = {site.name: IntDistribution(0, len(site.levels) - 1) for site in space.sites}
    run.check_genomes([site.high for site in sites.values()])
    whole = {plan.plan_id for plan in fully_scored(evaluations)}
    trials = [
        _trial(plan, cost_names, sites, attributes, is_whole=plan.plan_id in whole)
        for plan, attributes in zip(evaluations, _attributes(run, evaluations), strict=True)
    ]
    return Study(name=name, metric_names=("kl", *cost_names), trials=trials)


def _trial(
    plan: Evaluation,
    cost_names: Sequence[str],
    sites: Mapping[str, BaseDistribution],
    attributes: dict[str, Any],
    *,
    is_whole: bool,
) -> FrozenTrial:
    landed, values, state = plan.created_at or datetime.now(UTC), None, TrialState.FAIL
    if plan.score.failure is None:
        values = [plan.score.mean("kl"), *(plan.costs[name] for name in cost_names)]
        state = TrialState.COMPLETE if is_whole else TrialState.PRUNED
    return FrozenTrial(
        number=0,  # as `trial_id`, the storage's to give
        trial_id=0,
        state=state,
        value=None,
        values=values,
        datetime_start=landed - timedelta(seconds=plan.score.seconds),
        datetime_complete=landed,
        params=dict(zip(sites, plan.genome, strict=True)),
        distributions=dict(sites),
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
    )


def _attributes(run: RunStore, evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Return what is known of each plan besides its values, without what is no number."""
    frame = evaluation_frame(evaluations, run.dense)
    told = {"kl", "created_at", *run.cost_names}
    columns = map(str, frame.columns)
    frame = frame[[name for name in columns if name not in told and not name.endswith("_x")]]
    baselines = {plan_id: name for name, plan_id in (run.metadata.baselines or {}).items()}
    frame = frame.assign(baseline=[baselines.get(plan_id, "") for plan_id in frame["plan_id"]])
    return [
        {str(name): value for name, value in row.items() if not _is_unknown(value)}
        for row in frame.to_dict("records")
    ]


def _is_unknown(value: object) -> bool:
    return value == "" or (isinstance(value, float) and math.isnan(value))
