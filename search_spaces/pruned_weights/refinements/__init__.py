"""Refinements, which improve matrices that are sparse already: one file a method."""

from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:  # settings read the names without torch
    from search_spaces.pruned_weights.refinements.protocol import Refinement

RefinementName = Literal["admm", "dsnot"]


def make_refinement(name: RefinementName) -> "Refinement":
    """Return the refinement of a name."""
    match name:
        case "admm":
            from search_spaces.pruned_weights.refinements.admm import Admm

            return Admm()
        case "dsnot":
            from search_spaces.pruned_weights.refinements.dsnot import DSnoT

            return DSnoT()
        case _:
            assert_never(name)
