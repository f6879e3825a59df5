"""Number formats that one component chooses among, and what they ask of its widths."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd, lcm
from typing import TYPE_CHECKING

from search_spaces.space.number_format import SOURCE, STORED, NumberFormat

if TYPE_CHECKING:  # their modules load torch, which reading a plan can do without
    from search_spaces.structure.components import Component, ComponentKind, UnitWeight
    from search_spaces.structure.model import ModelStructure

Sources = Mapping[str, NumberFormat]
"""The formats in which matrices came from a quantised file, by their names in the model."""


@dataclass(frozen=True, kw_only=True)
class ComponentFormats:
    """Number formats beside the dense model's, and the widths that all of them can hold.

    Widths that would break the blocks of a matrix, which are whole where nothing of it is pruned,
    are none of the component's levels.
    """

    formats: tuple[NumberFormat, ...] = ()
    """From the largest to the smallest that it comes to; no two come to the same."""
    unit_step: int = 1
    """Kept units are a multiple of it, where any are pruned."""
    channel_step: int = 1
    """So are kept channels of each member."""

    def holds_units(self, component: "Component", count: int) -> bool:
        """Return whether all formats can hold a component that keeps so many units."""
        return count == component.unit_count or count % self.unit_step == 0

    def holds_channels(self, component: "Component", count: int) -> bool:
        """Return whether all formats can hold it with so many channels of each member."""
        return count == component.channel_count or count % self.channel_step == 0


NO_FORMATS = ComponentFormats()
"""The dense model's alone, which holds any width."""


def component_formats(
    structure: "ModelStructure",
    ladder: Sequence[NumberFormat],
    sources: Sources,
    fuses: Collection["ComponentKind"] = (),
) -> dict[str, ComponentFormats]:
    """Return the formats of each component of a model, by its name.

    Of a component that no matrix would be smaller in, a format is left out; one that none of its
    matrices can be held in stands as the format that they have in its place.

    Args:
        structure: As it is on disk, for its number formats.
        ladder: To choose from.
        sources: Of the model.
        fuses: Kinds of component whose matrices with rows of units must be in one format, as they
            may be one matrix where they are stored.
    """
    return {
        component.name: _of_component(
            structure, component, ladder, sources, is_fused=component.kind in fuses
        )
        for component in structure.components
    }


def asked_of(
    number_format: NumberFormat, source: NumberFormat, *, is_anew: bool = False
) -> NumberFormat:
    """Return the format that is asked of a matrix where one is asked of its component.

    Args:
        number_format: Of the component.
        source: In which the matrix came from a quantised file.
        is_anew: Whether it is not as it came but cut in its rows, sparse or fitted anew.
    """
    if number_format != SOURCE:
        return number_format
    return source.anew if is_anew else source


def _of_component(
    structure: "ModelStructure",
    component: "Component",
    ladder: Sequence[NumberFormat],
    sources: Sources,
    *,
    is_fused: bool,
) -> ComponentFormats:
    owner = structure.owner(component)
    weights = [each for each in component.unit_weights(owner) if each.role == "matrix"]
    came_in = [
        sources.get(structure.tensor_name(component, weight.path), STORED) for weight in weights
    ]
    sizes: dict[tuple[NumberFormat, ...], int] = {}
    names: dict[tuple[NumberFormat, ...], NumberFormat] = {}
    for number_format in ladder:
        asked = [asked_of(number_format, source) for source in came_in]
        held = tuple(
            each.held(weight.tensor.shape[-1]) for each, weight in zip(asked, weights, strict=True)
        )
        pairs = [*zip(held, weights, strict=True)]
        if is_fused and len({each for each, weight in pairs if weight.side == "rows"}) > 1:
            continue
        size = sum(_bytes(each, weight) for each, weight in pairs)
        if held in sizes or size >= sum(_bytes(STORED, weight) for weight in weights):
            continue
        smaller = {*held} - {STORED}
        is_other = len(smaller) == 1 and number_format != SOURCE
        sizes[held], names[held] = size, smaller.pop() if is_other else number_format
    by_size = sorted(sizes, key=lambda held: -sizes[held])
    return ComponentFormats(
        formats=tuple(names[held] for held in by_size),
        unit_step=_step(component, weights, by_size, is_stacked=False),
        channel_step=_step(component, weights, by_size, is_stacked=True),
    )


def _bytes(number_format: NumberFormat, weight: "UnitWeight") -> int:
    *stack, rows, columns = weight.tensor.shape
    if number_format == STORED:
        return weight.tensor.nbytes
    count = stack[0] if stack else 1
    return count * number_format.bytes_of(rows, columns)


def _step(
    component: "Component",
    weights: "Sequence[UnitWeight]",
    all_held: Iterable[tuple[NumberFormat, ...]],
    *,
    is_stacked: bool,
) -> int:
    """Return the fewest units, or channels of a member, whose inputs are whole blocks."""
    whole = component.channel_count if is_stacked else component.unit_count
    return lcm(
        *(
            number_format.block // gcd(number_format.block, weight.tensor.shape[-1] // whole)
            for held in all_held
            for number_format, weight in zip(held, weights, strict=True)
            if weight.side == "columns" and weight.is_stacked == is_stacked
        )
    )
