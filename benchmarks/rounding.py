"""What error feedback is worth against rounding to the nearest, on plans of few bits."""

from collections.abc import Mapping, Sequence

from benchmarks.report import Goal
from planner.results.significance import Verdict, compare_kl
from planner.run import Run

FEW_BITS = 0.36
"""Bytes, of those in bfloat16, below which most weights have under 6 bits."""


def rounding_gains(feedback: Run, rounded: Run) -> Mapping[str, tuple[str, Verdict]]:
    """Compare plans of few bits, made with error feedback and without, on hold-out text.

    Returns:
        By size, both KLs in words, and whether error feedback is better.
    """
    gains: dict[str, tuple[str, Verdict]] = {}
    # plans are named by how their weights were made, too
    others = {plan.genome: plan for plan in rounded.front_plans()}
    for plan in feedback.front_plans():
        share = plan.costs["size"] / feedback.dense["size"]
        other = others.get(plan.genome)
        if share < FEW_BITS and other is not None:
            ours, theirs = plan.holdout["kl"], other.holdout["kl"]
            verdict = compare_kl(ours, theirs)[1]
            gains[f"{share:.3f}x"] = f"{ours} against {theirs} ({verdict})", verdict
    return gains


def feedback_goal(verdicts: Sequence[Verdict]) -> Goal:
    """Return what must hold of error feedback: it is better in each of at least two formats."""
    figure = f"of {len(verdicts)} formats of few bits, GPTQ beats rounding to the nearest in"
    better = sum(verdict == "better" for verdict in verdicts)
    return Goal(figure=figure, value=better, limit=max(2, len(verdicts)), at_least=True)
