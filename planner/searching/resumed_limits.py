"""Limits that a resumed run is beyond already."""

from planner.runs.run_store import RunStore
from planner.runs.vacancy import saved_settings
from planner.searching.forecast import search_limits
from planner.searching.rescoring import BASELINE_ROUND
from search_spaces.errors import SettingsError


def check_limits(run: RunStore) -> None:
    """Refuse new limits of a resumed run that lie below what it has taken, before it goes on.

    Those that it has are kept to: a run may go a little beyond a limit, and may be finished again.

    Args:
        run: Whose folder still holds the settings of before.

    Raises:
        SettingsError: If there is such a limit.
    """
    limits = search_limits(run.settings)
    if limits == search_limits(saved_settings(run.folder)):
        return
    searched = [plan for plan in run.evaluations() if plan.round != BASELINE_ROUND]
    scores, replies = [plan.score for plan in searched], run.replies().values()
    tokens = sum(score.tokens for score in scores) + sum(reply.tokens for reply in replies)
    seconds = sum(score.seconds for score in scores) + sum(reply.seconds for reply in replies)
    for name, limit, taken in (
        ("evaluations", limits.evaluations, len(searched)),
        ("tokens", limits.tokens, tokens),
        ("minutes", limits.minutes, seconds / 60),
    ):
        if limit is not None and limit < taken:
            by_default = "" if getattr(run.settings, name) is not None else " by default"
            raise SettingsError(
                f"`{name}` counts from a run's beginning, and must be at least the {taken:.10g} "
                f"that this one has behind it, got {limit:.10g}{by_default}; raise it, or search "
                "into another --out"
            )
