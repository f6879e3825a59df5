"""Compensation in the words of a setting: ``obs``, ``bias,dsnot``, ``obs,merge``, ``none``."""

from typing import NamedTuple, get_args

from search_spaces.errors import SettingsError
from search_spaces.pruned_weights.compensation import CompensationName
from search_spaces.pruned_weights.refinements import RefinementName
from search_spaces.suggestions import suggestion

_MERGE = "merge"


class WeightMethods(NamedTuple):
    """Methods that compensate for pruned units, weights and experts."""

    compensation: CompensationName | None = None
    """For heads and channels."""
    refinement: RefinementName | None = None
    """For sparse weights."""
    merges: bool = False
    """Whether pruned experts are merged into the kept ones."""

    def __str__(self) -> str:
        words = (self.compensation, self.refinement, _MERGE if self.merges else None)
        return ",".join(filter(None, words)) or "none"


def parse_weight_methods(text: str) -> WeightMethods:
    """Read a list with commas: at most one compensation and one refinement, and ``merge``.

    Raises:
        SettingsError: If a name is unknown, or two are of a kind.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["none"]:
        return WeightMethods()
    compensations: tuple[CompensationName, ...] = get_args(CompensationName)
    refinements: tuple[RefinementName, ...] = get_args(RefinementName)
    names = (*compensations, *refinements, _MERGE)
    for word in words:
        if word not in names:
            remedy = suggestion(word, names, f"choose from none, {', '.join(names)}")
            raise SettingsError(
                f"`compensate` must name compensations, got `{word[:40]}`; {remedy}"
            )
    compensation = [name for name in compensations if name in words]
    refinement = [name for name in refinements if name in words]
    if not words or max(len(compensation), len(refinement)) > 1:
        raise SettingsError(
            f"`compensate` must be none, or at most one of {', '.join(compensations)} and one of "
            f"{', '.join(refinements)}, got `{text[:60]}`; leave some out"
        )
    return WeightMethods(
        compensation=next(iter(compensation), None),
        refinement=next(iter(refinement), None),
        merges=_MERGE in words,
    )
