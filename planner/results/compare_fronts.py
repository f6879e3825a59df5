"""Two runs' fronts beside each other: which covers more, and which plans the other beats."""

from dataclasses import dataclass

from planner.results.front import front
from planner.results.indicators import Points, dominated, hypervolume, reference_kl
from planner.runs.run_store import RunStore
from search_spaces.errors import RunError


@dataclass(frozen=True, kw_only=True)
class FrontStanding:
    """How one run's front stands against another's, on hold-out text."""

    hypervolume: float
    """Of its own, against a reference that both share."""
    plans: int
    beaten: int
    """Plans that one of the other's beats, by value."""
    beaten_beyond: int
    """Those of them that are beaten beyond the errors of both KL."""


def compare_fronts(ours: RunStore, theirs: RunStore) -> tuple[FrontStanding, FrontStanding, float]:
    """Compare two runs of one model, searched for the same costs on the same text.

    By KL on hold-out text, which neither chose by.

    Returns:
        Our standing, theirs, and the reference KL of both hypervolumes.

    Raises:
        RunError: Where they cannot be compared, or a front is not re-scored on hold-out text.
    """
    for key, what in (
        ("model", "the same model"),
        ("cost_names", "the same costs"),
        ("calibration", "the same text"),
    ):
        if ours.get_meta(key) != theirs.get_meta(key):
            raise RunError(
                f"two runs must be of {what} to be compared, got {ours.get_meta(key)!r} in "
                f"`{ours.folder}` and {theirs.get_meta(key)!r} in `{theirs.folder}`; search again"
            )
    first, second = _points(ours), _points(theirs)
    reference = reference_kl(first, second)
    return _standing(first, second, reference), _standing(second, first, reference), reference


def _points(run: RunStore) -> Points:
    names = run.get_meta("cost_names")
    plans = front(run.evaluations(), names)
    if not plans or any("kl" not in plan.holdout for plan in plans):
        raise RunError(
            f"`{run.folder}` must hold a front that is re-scored on hold-out text to be compared, "
            "got none; let the search end with --resume"
        )
    return Points.of(plans, names, run.dense, "holdout")


def _standing(own: Points, other: Points, reference: float) -> FrontStanding:
    by_value, beyond = dominated(own, other)
    return FrontStanding(
        hypervolume=hypervolume(own, reference),
        plans=len(own.kls),
        beaten=int(by_value.sum()),
        beaten_beyond=int(beyond.sum()),
    )
