"""Indicators of fronts: hypervolume, significant dominance, and the knee."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import moocore
import numpy as np
from numpy.typing import NDArray

from planner.runs.records import Evaluation, RescoreSplit
from planner.settings.budget import relative_cost

SIGNIFICANT_ERRORS = 2
"""Standard errors that a difference must exceed to be significant."""
_REFERENCE_FACTOR = 1.1
"""A reference this far above the highest KL gives the last plan of a front a volume too."""
_LEAST_PLANS = 3
"""Two plans are the ends of the chord themselves."""
# a plan on the chord is no knee, whatever its rounding error
_ROUNDING = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """Plans as points: the objectives of each, with the error of its KL."""

    kls: Floats
    """``(plans,)``, nats a token."""
    errors: Floats
    """Standard errors of these, ``(plans,)``."""
    shares: Floats
    """Costs as shares of the dense model's, ``(plans, costs)``."""

    @classmethod
    def of(
        cls,
        plans: Sequence[Evaluation],
        cost_names: Sequence[str],
        dense: Mapping[str, float],
        split: Literal["searched"] | RescoreSplit = "searched",
    ) -> Self:
        """Return plans as points, by their KL on the search text or on a re-scoring text.

        Raises:
            KeyError: If a plan has no KL on that text.
        """
        scores = [e.quality if split == "searched" else getattr(e, split) for e in plans]
        shares = [[relative_cost(n, e.costs[n], dense) for n in cost_names] for e in plans]
        return cls(
            kls=np.array([score["kl"].value for score in scores], dtype=np.float64),
            errors=np.array([score["kl"].standard_error for score in scores], dtype=np.float64),
            shares=np.array(shares, dtype=np.float64).reshape(len(plans), len(cost_names)),
        )

    @property
    def objectives(self) -> Floats:
        """``(plans, 1 + costs)``, minimised."""
        return np.column_stack([self.kls, self.shares])


def reference_kl(*fronts: Points) -> float:
    """Return a reference KL for hypervolumes: a tenth above the highest on any of the fronts.

    Hypervolumes compare only to one reference, so fronts to be compared are given together, or
    all measured to one KL that the user names.
    """
    return _REFERENCE_FACTOR * max(
        (float(kl) for front in fronts for kl in front.kls), default=0.0
    )


def hypervolume(points: Points, reference: float, *, cheapest: float = 0.0) -> float:
    """Return the hypervolume as a share of the box from KL 0 at no cost to the reference.

    The reference point is the reference KL at the dense model's cost, so that 1 would be a plan
    with the dense model's quality that costs nothing.

    Args:
        points: Plans; those outside the box add nothing.
        reference: The highest KL of the box, above 0.
        cheapest: The least share of a cost that is of interest; cheaper plans count as this.

    References:
        Zitzler & Thiele, 1999, "Multiobjective evolutionary algorithms: a comparative case study
        and the strength Pareto approach", doi:10.1109/4235.797969; computed by moocore.
    """
    if reference <= 0 or not len(points.kls):
        return 0.0
    costs = points.shares.shape[1]
    finite = np.isfinite(points.kls)
    objectives = np.column_stack([points.kls, np.maximum(points.shares, cheapest)])[finite]
    volume = float(moocore.hypervolume(objectives, ref=[reference, *[1.0] * costs]))
    box: float = reference * (1.0 - cheapest) ** costs
    return volume / box


def margin(error: Floats | float, other: Floats | float) -> Floats:
    """Return what a difference of two KL must exceed to be significant, by their standard errors.

    A conservative bound: if the same windows scored both, the difference has a smaller error.
    """
    return np.asarray(SIGNIFICANT_ERRORS * np.hypot(error, other))


def dominated(ours: Points, theirs: Points) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of our plans one of theirs dominates: no dearer in any cost, and better.

    Args:
        ours: Plans of one front.
        theirs: Plans of another, of the same model and costs.

    Returns:
        ``(plans,)`` each: by value, where equal KL at a lower cost dominates too; and
        significantly, by more than the errors of both KL.
    """
    # (ours, theirs) throughout
    no_dearer = (theirs.shares[None] <= ours.shares[:, None]).all(axis=-1)
    cheaper = no_dearer & (theirs.shares[None] < ours.shares[:, None]).any(axis=-1)
    improvement = ours.kls[:, None] - theirs.kls[None]
    by_value = (no_dearer & (improvement > 0)) | (cheaper & (improvement >= 0))
    significant = improvement > margin(ours.errors[:, None], theirs.errors[None])
    significantly = no_dearer & significant
    return np.asarray(by_value.any(axis=1)), np.asarray(significantly.any(axis=1))


def plan_at_knee(
    plans: Sequence[Evaluation], cost_names: Sequence[str], dense: Mapping[str, float]
) -> Evaluation | None:
    """Return the plan of a front beyond which further savings cost most.

    Args:
        plans: The front.
        cost_names: The costs that were minimised.
        dense: The dense model's.

    Returns:
        `None` if the front is too short or too straight to have a knee.
    """
    position = knee(Points.of(plans, cost_names, dense))
    return None if position is None else plans[position]


def knee(front: Points) -> int | None:
    """Return the plan beyond which further savings cost most: the farthest below the chord.

    Each objective is scaled to 0 … 1 over the front. Two objectives x and y then run from (0, 1)
    to (1, 0), and 1 − x − y is √2 times the distance below the chord between these ends. With more
    costs it is the distance below the plane through the ends of the axes, scaled alike. The knee
    depends on where a front ends, that is on the range that was searched.

    Args:
        front: Non-dominated plans.

    Returns:
        The plan's position; `None` if the front has fewer than three plans, or none below the
        chord.

    References:
        Das, 1999, "On characterizing the 'knee' of the Pareto curve based on Normal-Boundary
        Intersection", doi:10.1007/BF01195985; Satopää, Albrecht, Irwin, Raghavan, 2011, "Finding a
        'Kneedle' in a haystack", doi:10.1109/ICDCSW.2011.20, who scale a curve in the same way.
    """
    if len(front.kls) < _LEAST_PLANS:
        return None
    lowest, highest = front.objectives.min(axis=0), front.objectives.max(axis=0)
    span = np.where(highest > lowest, highest - lowest, 1.0)
    below = 1.0 - ((front.objectives - lowest) / span).sum(axis=1)
    best = int(np.argmax(below))
    return best if below[best] > _ROUNDING else None
