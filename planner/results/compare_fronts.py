"""Comparison of two runs' fronts: which covers more, and which plans the other dominates."""

from dataclasses import dataclass

from planner.results.front import front
from planner.results.indicators import Points, dominated, hypervolume, reference_kl
from planner.runs.records import Evaluation
from planner.runs.run_store import RunStore
from search_spaces.errors import RunError
from search_spaces.suggestions import shown


@dataclass(frozen=True, kw_only=True)
class FrontComparison:
    """One run's front against another's, on held-out text."""

    hypervolume: float
    """Of this front, to a reference that both share."""
    plans: int
    dominated: int
    """Plans that a plan of the other front dominates, by value."""
    significantly_dominated: int
    """Plans that it dominates by more than the errors of both KL."""


def compare_fronts(
    ours: RunStore, theirs: RunStore
) -> tuple[FrontComparison, FrontComparison, float]:
    """Compare two runs of one model, searched for the same costs on the same text.

    They are compared by KL on held-out text, which neither search saw.

    Returns:
        Our comparison, theirs, and the reference KL of both hypervolumes.

    Raises:
        RunError: If they cannot be compared, or a front is not re-scored on held-out text.
    """
    check_comparable(ours, theirs)
    our_points, their_points = _points(ours), _points(theirs)
    reference = reference_kl(our_points, their_points)
    our_standing = _compare(our_points, their_points, reference)
    return our_standing, _compare(their_points, our_points, reference), reference


def check_comparable(ours: RunStore, theirs: RunStore) -> None:
    """Refuse to compare runs of different models, costs or text.

    Raises:
        RunError: If they are.
    """
    first, second = ours.metadata, theirs.metadata
    for shared, of_ours, of_theirs in (
        ("the same model", first.model, second.model),
        ("the same costs", first.cost_names, second.cost_names),
        ("the same text", first.text, second.text),
    ):
        if of_ours != of_theirs:
            raise RunError(
                f"two runs must be of {shared} to be compared, got {shown(of_ours)} in "
                f"`{ours.folder}` and {shown(of_theirs)} in `{theirs.folder}`; search again"
            )


def rescored_front(run: RunStore) -> list[Evaluation]:
    """Return the front of a run, most expensive first.

    Raises:
        RunError: If there is none, or it is not re-scored on held-out text.
    """
    plans = front(run.landed(), run.cost_names)
    if not plans or any("kl" not in plan.holdout for plan in plans):
        raise RunError(
            f"`{run.folder}` must hold a front that is re-scored on held-out text to be compared, "
            "got none; let the search end with --resume"
        )
    return plans


def _points(run: RunStore) -> Points:
    return Points.of(rescored_front(run), run.cost_names, run.dense, "holdout")


def _compare(points: Points, other: Points, reference: float) -> FrontComparison:
    by_value, significantly = dominated(points, other)
    return FrontComparison(
        hypervolume=hypervolume(points, reference),
        plans=len(points.kls),
        dominated=int(by_value.sum()),
        significantly_dominated=int(significantly.sum()),
    )
