"""What a place where models are loaded can hold of one, which restricts its search space."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from search_spaces.space.block_options import BlockOptions
from search_spaces.space.formats.component_formats import NO_FORMATS, ComponentFormats
from search_spaces.space.number_format import CACHE_FORMATS, FORMATS, STORED, NumberFormat

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
    """Why it does not hold a component with so many units and such options, whatever their number
    format; empty: it does. Units and each of the options are refused for themselves, and not for
    what they come with."""
    equal: "Mapping[ComponentKind, frozenset[Dimension]]" = field(default_factory=dict)
    """For each kind of component along what all that are kept of the model must be alike."""
    whole_layers: bool = False
    """Whether a layer must keep some of all its components, or nothing."""
    fuses: "frozenset[ComponentKind]" = frozenset()
    """Kinds of component whose matrices with rows of units may be one matrix in its files."""
    stores: tuple[NumberFormat, ...] = tuple(FORMATS.values())
    """Number formats that its files hold matrices in, besides the dense model's."""
    caches: tuple[NumberFormat, ...] = tuple(CACHE_FORMATS.values())
    """Those that its runtime keeps keys and values in, the usual one first."""
    formats: "Mapping[str, ComponentFormats]" = field(default_factory=dict)
    """Of a search, by component those to choose from; none: the dense model's alone."""

    def equal_along(self, kind: "ComponentKind") -> "frozenset[Dimension]":
        """Return along what all components of a kind must be alike: a model has one cache."""
        return self.equal.get(kind, frozenset()) | {"cache"}

    def formats_of(self, component: "Component") -> ComponentFormats:
        """Return the number formats that a search chooses among for a component."""
        return self.formats.get(component.name, NO_FORMATS)

    def refusal(self, component: "Component", units: int, options: BlockOptions) -> str:
        """Return why it does not hold a component with so many units and such options.

        Returns:
            A clause; empty: it does hold it.
        """
        if options.format not in (STORED, *self.stores):
            return f"it stores no matrices in {options.format}"
        if options.cache not in (STORED, *self.caches):
            return f"its runtime keeps no keys and values in {options.cache}"
        return self.refuses(component, units, options)


HOLDS_ALL = Holds()
"""Of a model that need not be loaded anywhere but here."""
