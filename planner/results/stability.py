"""Stability: whether a front looks the same on another draw of the search text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from evaluators.metric import Measurement
from planner.runs.records import Evaluation
from search_spaces.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

LEAST_PLANS = 3
"""Two plans have one order or the other, which is no correlation to speak of."""
_ERROR_RANGE = 2
"""Standard errors to each side that a KL may be off by."""


@dataclass(frozen=True, kw_only=True)
class Stability:
    """A front on its search text, and on a fresh draw of the same text.

    References:
        Spearman, "The proof and measurement of association between two things", 1904.
    """

    ranks: "pd.DataFrame"
    """One row a plan that prunes something, most expensive first. ``plan_id``; ``kl`` and
    ``fresh_kl`` with their errors; ``rank`` and ``fresh_rank`` by them, from 1 for the lowest,
    ties sharing their mean; ``rank_least`` and ``rank_most`` that the errors of ``kl`` allow;
    ``moved``: whether ``fresh_rank`` lies outside of these."""
    spearman: float
    """Of the two draws' ranks, from −1 to 1. Plans of very different cost keep their order on any
    text, so that a high one is easily had; ``moved`` tells more."""
    optimism: Measurement
    """Mean of searched KL − fresh KL, in nats a token: below 0 if the search flatters its plans
    (the winner's curse). The error is an upper bound, as the same windows scored all plans."""


def stability(front: Sequence[Evaluation]) -> Stability:
    """Compare the plans of a front on two draws of the search text.

    The dense model is left out: its KL is 0 on any text.

    Args:
        front: Its plans, most expensive first.

    Raises:
        RunError: If fewer than three plans prune something, or one has no KL on fresh text.
    """
    pruned = [e for e in front if e.quality["kl"].value != 0]
    scored = [e for e in pruned if "kl" in e.fresh and math.isfinite(e.fresh["kl"].value)]
    if len(scored) < max(LEAST_PLANS, len(pruned)):
        raise RunError(
            f"stability needs {LEAST_PLANS} plans or more that prune something on the front, each "
            f"with a KL on fresh text, got {len(scored)} of {len(pruned)}; "
            "search on with --resume and more --evaluations"
        )
    import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

    ranks = pd.DataFrame([_row(evaluation) for evaluation in scored])
    ranks["rank"] = ranks["kl"].rank()
    low = ranks["kl"] - _ERROR_RANGE * ranks["kl_se"]
    high = ranks["kl"] + _ERROR_RANGE * ranks["kl_se"]
    ranks["rank_least"] = [1 + int((high < bound).sum()) for bound in low]
    ranks["rank_most"] = [len(ranks) - int((low > bound).sum()) for bound in high]
    ranks["fresh_rank"] = ranks["fresh_kl"].rank()
    ranks["moved"] = ~ranks["fresh_rank"].between(ranks["rank_least"], ranks["rank_most"])
    return Stability(
        ranks=ranks,
        spearman=float(ranks["rank"].corr(ranks["fresh_rank"])),
        optimism=Measurement(
            value=float((ranks["kl"] - ranks["fresh_kl"]).mean()),
            # errors that rise and fall together average to no less than their mean
            standard_error=math.hypot(ranks["kl_se"].mean(), ranks["fresh_kl_se"].mean()),
        ),
    )


def _row(evaluation: Evaluation) -> dict[str, object]:
    searched, fresh = evaluation.quality["kl"], evaluation.fresh["kl"]
    return {
        "plan_id": evaluation.plan_id,
        "kl": searched.value,
        "kl_se": searched.standard_error,
        "fresh_kl": fresh.value,
        "fresh_kl_se": fresh.standard_error,
    }
