"""What a place where models are loaded can hold of one, which restricts its search space."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from search_spaces.space.block_options import BlockOptions

if TYPE_CHECKING:  # their modules load torch, which reading a plan can do without
    from collections.abc import Callable, Mapping

    from search_spaces.space.configuration import Dimension
    from search_spaces.structure.components import Component, ComponentKind


def _any(_component: "Component", _units: int, _options: BlockOptions) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Holds:
    """What a target can hold of one model: rules that a plan and a space are asked by alike."""

    refuses_model: str = ""
    """Why it holds nothing of this model; empty: it does hold it."""
    refuses: "Callable[[Component, int, BlockOptions], str]" = _any
    """Why it does not hold a component with so many units and such options; empty: it does.
    Units and each of the options are refused for themselves, and not for what they come with."""
    equal: "Mapping[ComponentKind, frozenset[Dimension]]" = field(default_factory=dict)
    """For each kind of component along what all that are kept of the model must be alike."""
    whole_layers: bool = False
    """Whether a layer must keep some of all its components, or nothing."""


HOLDS_ALL = Holds()
"""Of a model that need not be loaded anywhere but here."""
