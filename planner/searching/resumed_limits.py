"""Limits that a resumed run is beyond already."""

from planner.runs.run_store import RunStore
from planner.runs.vacancy import saved_settings
from planner.searching.forecast import search_limits
from planner.searching.spending import held_effort
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
    held = held_effort(run)
    for name, limit, taken in (
        ("evaluations", limits.evaluations, held.plans),
        ("tokens", limits.tokens, held.tokens),
        ("minutes", limits.minutes, held.seconds / 60),
    ):
        if limit is not None and limit < taken:
            by_default = "" if getattr(run.settings, name) is not None else " by default"
            raise SettingsError(
                f"`{name}` counts from a run's beginning, and must be at least the {taken:.10g} "
                f"that this one has behind it, got {limit:.10g}{by_default}; raise it, or search "
                "into another --out"
            )
