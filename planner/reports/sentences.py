"""What a run says in sentences."""

import math
from typing import TYPE_CHECKING

from planner.results.compare_fronts import compare_fronts
from planner.results.front import front
from planner.results.indicators import Points, hypervolume, reference_kl
from planner.results.significance import Verdict, judged
from planner.results.stability import Stability
from planner.run import Run
from planner.runs.records import Evaluation
from planner.settings.budget import format_amount, relative_cost
from search_spaces.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

BASELINES = {
    "uniform": "the plan that cuts the same share everywhere",
    "additive": "the best plan if guessed harms added up",
}
"""What the baselines of a run are."""


def front_sentence(run: Run, *, reference: float | None = None) -> str:
    """Say how large the hypervolume of a run's front is, against what, and where its knee lies.

    Args:
        run: The run.
        reference: The KL to measure against; none: a tenth beyond the front's worst.

    Raises:
        SettingsError: The reference is not above 0.
    """
    if reference is not None and not 0 < reference < math.inf:
        raise SettingsError(
            f"`reference` must be a KL above 0, got {reference:g}; give one that both fronts to "
            "be compared stay below"
        )
    names, dense = run.get_meta("cost_names"), run.dense
    points = Points.of(front(run.evaluations(), names), names, dense)
    against = reference_kl(points) if reference is None else reference
    corner = " and ".join(["KL 0", *(f"no {name}" for name in names)])
    volume = (
        f"hypervolume {hypervolume(points, against):.4f} of the box from {corner} to KL "
        f"{against:.4g} at the dense model's (other runs compare at --reference {against:.4g})"
    )
    found = run.knee()
    if found is None:
        return f"{volume}\nknee: none, for no plan lies below the line between the front's ends"
    costs = ", ".join(f"{n} {relative_cost(n, found.costs[n], dense):.3f}x" for n in names)
    kl = found.quality["kl"]
    return (
        f"{volume}\nknee: plan {found.plan_id} at {costs}, "
        f"KL {with_error(kl.value, kl.standard_error)}; what is saved beyond it costs most"
    )


def rivalry_sentences(ours: Run, theirs: Run) -> str:
    """Say how the fronts of two runs stand against each other on hold-out text."""
    *standings, reference = compare_fronts(ours, theirs)
    lines = [f"on hold-out text, hypervolumes to KL {reference:.4g}:"]
    for run, found in zip((ours, theirs), standings, strict=True):
        lines.append(
            f"  {run.folder}: hypervolume {found.hypervolume:.4f}; {found.beaten} of "
            f"{found.plans} plans beaten by the other run, {found.beaten_beyond} beyond the error"
        )
    return "\n".join(lines)


def with_error(value: float, error: float) -> str:
    """Write a value with its standard error."""
    return f"{value:.3f} ± {error:.3f}"


def compared_with_baselines(run: Run, chosen: Evaluation) -> list[str]:
    """Say whether a plan beats those that take no search, beyond the error.

    Returns:
        A sentence for each that the run has; first one on the plan itself. None where either was
        not scored on hold-out text.
    """
    cost = str(run.get_meta("cost_names")[0])
    against = [
        _against(chosen, baseline, cost, BASELINES[name])
        for name, baseline in run.baselines().items()
        if _is_finite(chosen) and _is_finite(baseline)
    ]
    if not against:
        return []
    amount = format_amount(cost, chosen.costs[cost])
    return [f"on hold-out text KL {_kl(chosen)} at {cost} {amount}", *against]


def _against(chosen: Evaluation, baseline: Evaluation, cost: str, what: str) -> str:
    if chosen.plan_id == baseline.plan_id:
        return f"it is {what}: the search found none better"
    gain, verdict = judged(chosen.holdout["kl"], baseline.holdout["kl"])
    by = with_error(gain.value, gain.standard_error)
    said: Mapping[Verdict, str] = {
        "better": f"beats it beyond the error, by {by}",
        "perhaps": f"is better, but within the error, by {by}",
        "no better": "does NOT beat it",
    }
    return (
        f"against {_kl(baseline)} at {format_amount(cost, baseline.costs[cost])} for {what}: "
        f"the search {said[verdict]}"
    )


def _is_finite(evaluation: Evaluation) -> bool:
    return "kl" in evaluation.holdout and math.isfinite(evaluation.holdout["kl"].value)


def _kl(evaluation: Evaluation) -> str:
    kl = evaluation.holdout["kl"]
    return with_error(kl.value, kl.standard_error)


def stability_sentences(found: Stability) -> str:
    """Say whether a front would look the same on other text of the same kind."""
    moved = list(found.ranks["plan_id"][found.ranks["moved"]])
    gap = found.optimism
    if gap.value > 2 * gap.standard_error:
        verdict = "the search flatters itself, so go by the fresh and hold-out figures"
    else:
        verdict = "the search does not flatter itself beyond the error"
    return (
        f"order: Spearman {found.spearman:.3f} between both rankings (1: the same, 0: unrelated); "
        f"{len(moved) or 'none'} of {len(found.ranks)} plans moved to a rank that the errors of "
        f"the searched KL do not allow\n"
        f"level: on fresh text KL is {'higher' if gap.value > 0 else 'lower'} by "
        f"{with_error(abs(gap.value), gap.standard_error)} nats a token on average: {verdict}"
    )
