"""What makes up for what goes, in words: ``obs``, ``bias,dsnot``, ``none``."""

import difflib
from typing import get_args

from search_spaces.compensation import CompensationName
from search_spaces.errors import SettingsError
from search_spaces.sparsifiers import RefinementName


def parse_repairs(text: str) -> tuple[CompensationName | None, RefinementName | None]:
    """Read a list with commas: at most one compensation and one refinement.

    Raises:
        SettingsError: An unknown name, or two of a kind.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return None, None
    compensations: tuple[CompensationName, ...] = get_args(CompensationName)
    refinements: tuple[RefinementName, ...] = get_args(RefinementName)
    known = (*compensations, *refinements)
    for word in words:
        if word not in known:
            close = difflib.get_close_matches(word, known, n=1)
            choose = f"choose from none, {', '.join(known)}"
            remedy = f"did you mean `{close[0]}`?" if close else choose
            raise SettingsError(f"`compensate` must name repairs, got `{word[:40]}`; {remedy}")
    chosen = [name for name in compensations if name in words]
    refined = [name for name in refinements if name in words]
    if not words or max(len(chosen), len(refined)) > 1:
        raise SettingsError(
            f"`compensate` must be none, or at most one of {', '.join(compensations)} and one of "
            f"{', '.join(refinements)}, got `{text[:60]}`; leave some out"
        )
    return next(iter(chosen), None), next(iter(refined), None)
