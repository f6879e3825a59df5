"""What makes up for what goes, in words: ``obs``, ``bias,dsnot``, ``obs,merge``, ``none``."""

import difflib
from typing import NamedTuple, get_args

from search_spaces.errors import SettingsError
from search_spaces.pruned_weights.compensation import CompensationName
from search_spaces.pruned_weights.sparsifiers import RefinementName

_MERGE = "merge"


class WeightMethods(NamedTuple):
    """What makes up for what goes."""

    compensation: CompensationName | None = None
    """For heads and channels."""
    refinement: RefinementName | None = None
    """For sparse weights."""
    merges: bool = False
    """Whether experts that go are merged into those that stay."""


def parse_weight_methods(text: str) -> WeightMethods:
    """Read a list with commas: at most one compensation and one refinement, and ``merge``.

    Raises:
        SettingsError: An unknown name, or two of a kind.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return WeightMethods()
    compensations: tuple[CompensationName, ...] = get_args(CompensationName)
    refinements: tuple[RefinementName, ...] = get_args(RefinementName)
    known = (*compensations, *refinements, _MERGE)
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
    return WeightMethods(next(iter(chosen), None), next(iter(refined), None), _MERGE in words)
