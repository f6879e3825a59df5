"""A run reported in sentences."""

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from evaluators.metric import METRICS, Measurement
from planner.results.compare_fronts import compare_fronts
from planner.results.equal_cost import EqualCost
from planner.results.indicators import Points, hypervolume, reference_kl
from planner.results.significance import Verdict, compare_kl
from planner.results.stability import Stability
from planner.run import Run
from planner.runs.records import Evaluation
from planner.runs.space_description import read_space
from planner.settings.budget import relative_cost
from search_spaces.errors import RunError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

BASELINES = {
    "uniform": "the uniform plan (the same share pruned everywhere)",
    "additive": "the additive plan (the best plan if sensitivities added up)",
}
"""Descriptions of the baselines of a run."""


def front_sentence(run: Run, *, reference: float | None = None) -> str:
    """Return two sentences: the hypervolume of a run's front with its reference, and its knee.

    Args:
        run: The run.
        reference: KL of the reference point; none: a tenth above the front's highest.

    Raises:
        SettingsError: If the reference is not above 0.
    """
    if reference is not None and not 0 < reference < math.inf:
        raise SettingsError(
            f"`reference` must be a KL above 0, got {reference:g}; give one that both fronts to "
            "be compared stay below"
        )
    names, dense = run.cost_names, run.dense
    points = Points.of(run.front_plans(), names, dense)
    against = reference_kl(points) if reference is None else reference
    corner = " and ".join(["KL 0", *(f"no {name}" for name in names)])
    volume = (
        f"hypervolume {hypervolume(points, against):.4f} of the box from {corner} to KL "
        f"{against:.4g} at the dense model's (other runs compare at --reference {against:.4g})"
    )
    plan = run.knee()
    if plan is None:
        return f"{volume}\nknee: none, for no plan lies below the line between the front's ends"
    costs = ", ".join(f"{n} {relative_cost(n, plan.costs[n], dense):.3f}x" for n in names)
    kl = plan.quality["kl"]
    return (
        f"{volume}\nknee: plan {plan.plan_id} at {costs}, "
        f"KL {kl}; what is saved beyond it costs most"
    )


def status_sentence(run: Run) -> str:
    """Return how far an unfinished run has come, or had when it ended; empty: it is finished."""
    status = run.status
    if status.state == "finished":
        return ""
    words = [str(status)]
    if status.share:
        words.append(f"{status.share:.0%}")
    if status.eta_seconds is not None:
        words.append(f"{status.eta_seconds / 60:.1f} min left")
    words.append(f"as of {status.updated_at:%Y-%m-%d %H:%M:%S} UTC")
    return f"this run is not finished: {', '.join(words)}"


def written_sentence(run: Run, plan: Evaluation) -> str:
    """Return what an export of a plan weighs that holds no formats; empty: the plan has none.

    It follows from the parameters, which are as wide as those of the dense model.
    """
    stored = run.stored_plan(plan.plan_id) if run.settings.space.formats else None
    sites = stored.sites.values() if stored else ()
    formats = sorted({kept.format for kept in sites if kept.kept} - {""})
    if not formats:
        return ""
    share = relative_cost("params", plan.costs["params"], run.dense)
    size = METRICS["size"].amount(share * run.dense["size"])
    return (
        f"its bytes are counted in {' and '.join(formats)}, as files for a runtime that stores "
        "these have them; an export that holds none has plain tensors of about "
        f"{size}, {share:.2f}x"
    )


def restriction_sentence(run: Run) -> str:
    """Return what plans of a run were restricted to; empty: to nothing."""
    place = run.settings.loads_in
    if place == "any":
        return ""
    shared = []
    with suppress(RunError):  # of a file that is lost, only the details are missing here
        space = read_space(run.folder, run.metadata.space_digest)
        layers = {component.name: component.layer for component in space.components}
        shared = [s.name for s in space.sites if len({layers[name] for name in s.targets}) > 1]
    alike = f", so that these are alike in all layers: {', '.join(shared)}" if shared else ""
    return f"plans are restricted to what {place} can hold (--loads_in){alike}"


def equal_cost_sentence(first: Run, second: Run, found: Sequence[EqualCost]) -> str:
    """Return what the KL of one run is more than that of another at the same costs.

    Args:
        first: A run.
        second: Another.
        found: As `at_equal_cost` returns it for these.
    """
    places = [f"{run.folder} (loads in {run.settings.loads_in})" for run in (first, second)]
    if not found:
        return f"no plan of {places[0]} costs as much as any of {places[1]}"
    worse = sum(each.verdict == "better" for each in found)
    most = max(found, key=lambda each: each.excess.value)
    return (
        f"at the same costs, on held-out text, KL of {places[0]} against {places[1]}: "
        f"significantly more at {worse} of {len(found)} plans, at most by "
        f"{most.excess} nats a token at "
        f"{most.shares[0]:.3f}x {first.cost_names[0]}"
    )


def rivalry_sentences(first: Run, second: Run) -> str:
    """Return how the fronts of two runs compare on held-out text, one line a run."""
    *standings, reference = compare_fronts(first, second)
    lines = [f"on held-out text, hypervolumes to KL {reference:.4g}:"]
    for run, standing in zip((first, second), standings, strict=True):
        lines.append(
            f"  {run.folder}: hypervolume {standing.hypervolume:.4f}; {standing.dominated} of "
            f"{standing.plans} plans dominated by the other run, "
            f"{standing.significantly_dominated} significantly"
        )
    return "\n".join(lines)


def with_error(value: float, error: float) -> str:
    """Return a value with its standard error as text."""
    return str(Measurement(value=value, standard_error=error))


def compared_with_baselines(run: Run, chosen: Evaluation) -> list[str]:
    """Return whether a plan is significantly better than the baselines, in sentences.

    Returns:
        First a sentence on the plan itself, then one for each baseline of the run; empty where
        the plan or every baseline was not scored on held-out text.
    """
    cost = run.cost_names[0]
    against = [
        _against(chosen, baseline, cost, BASELINES[name])
        for name, baseline in run.baselines().items()
        if _is_finite(chosen) and _is_finite(baseline)
    ]
    if not against:
        return []
    amount = METRICS[cost].amount(chosen.costs[cost])
    return [f"on held-out text KL {_kl(chosen)} at {cost} {amount}", *against]


def _against(chosen: Evaluation, baseline: Evaluation, cost: str, description: str) -> str:
    if chosen.plan_id == baseline.plan_id:
        return f"it is {description}: the search found none better"
    advantage, verdict = compare_kl(chosen.holdout["kl"], baseline.holdout["kl"])
    wordings: Mapping[Verdict, str] = {
        "better": f"is significantly better (2.5 %), by {advantage}",
        "perhaps": f"is better, but not significantly, by {advantage}",
        "no better": f"is NOT better: the difference is {advantage}",
    }
    amount = METRICS[cost].amount(baseline.costs[cost])
    return f"against {_kl(baseline)} at {amount} for {description}: the search {wordings[verdict]}"


def _is_finite(evaluation: Evaluation) -> bool:
    return "kl" in evaluation.holdout and math.isfinite(evaluation.holdout["kl"].value)


def _kl(evaluation: Evaluation) -> str:
    return str(evaluation.holdout["kl"])


def stability_sentences(stability: Stability) -> str:
    """Return whether a front would look the same on other text of the same kind."""
    moved_count = int(stability.ranks["moved"].sum())
    gap = stability.optimism
    if gap.value < -2 * gap.standard_error:
        verdict = "the search is optimistic, so go by the fresh and held-out figures"
    else:
        verdict = "the search is not significantly optimistic"
    return (
        f"order: Spearman {stability.spearman:.3f} between both rankings (1: the same, 0: "
        f"unrelated); {moved_count or 'none'} of {len(stability.ranks)} plans moved to a rank "
        f"that the errors of the search KL do not allow\n"
        f"level: on fresh text KL is {'higher' if gap.value < 0 else 'lower'} by "
        f"{with_error(abs(gap.value), gap.standard_error)} nats a token on average: {verdict}"
    )
