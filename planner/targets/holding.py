"""Whether a target can hold a plan, by the rules that it states of its model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.settings.search import LoadsIn
from planner.targets.target import Holds
from planner.targets.target_names import TargetName
from search_spaces.errors import TargetError
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component

_SHOWN = 3
"""Sites that a message names."""
_LOADS_IN: Mapping[TargetName, LoadsIn] = {"gguf": "llama.cpp", "onnx": "onnx"}
"""What restricts a search to what a target holds, where there is something that does."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One thing that a target cannot hold of a plan."""

    site: str
    reason: str


def refusals(holds: Holds, components: Sequence[Component], plan: Plan) -> list[Refusal]:
    """Return what a target cannot hold of a plan; nothing: it holds it.

    Args:
        holds: What the target says of the model.
        components: Of the model.
        plan: Of the same.
    """
    if holds.refuses_model:
        return [Refusal(site="model", reason=holds.refuses_model)]
    return [
        *_refused(holds, components, plan),
        *_halves(holds, components, plan),
        *_unlike(holds, components, plan),
    ]


def check_holds(
    name: TargetName, holds: Holds, components: Sequence[Component], plan: Plan
) -> None:
    """Refuse a plan that a target cannot hold.

    Raises:
        TargetError: If it cannot; the first sites are named.
    """
    found = refusals(holds, components, plan)
    if not found:
        return
    sites = ", ".join(f"`{each.site}`" for each in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise TargetError(
        f"`--format {name}` must be able to hold the plan, and at {sites}{more} it is not: "
        f"{found[0].reason}; choose another format{_other_search(name, holds)}"
    )


def _other_search(name: TargetName, holds: Holds) -> str:
    """Return the search whose plans a target holds, as an alternative; empty: there is none."""
    place = None if holds.refuses_model else _LOADS_IN.get(name)
    return f", or search with `--loads_in {place}`" if place else ""


def _kept(component: Component, plan: Plan) -> tuple[int, BlockOptions]:
    planned = plan.sites[component.name]
    units = len(planned.units) // component.group_count
    return units, planned.options(component.channel_count)


def _refused(holds: Holds, components: Sequence[Component], plan: Plan) -> Iterator[Refusal]:
    for component in components:
        if reason := holds.refusal(component, *_kept(component, plan)):
            yield Refusal(site=component.name, reason=reason)


def _halves(holds: Holds, components: Sequence[Component], plan: Plan) -> Iterator[Refusal]:
    """Find what is dropped of layers that keep something."""
    if not holds.whole_layers:
        return
    kept = {c.layer for c in components if _kept(c, plan)[0]}
    for component in components:
        if component.layer in kept and not _kept(component, plan)[0]:
            reason = "it is dropped, and layers are held whole or not at all"
            yield Refusal(site=component.name, reason=reason)


def _unlike(holds: Holds, components: Sequence[Component], plan: Plan) -> Iterator[Refusal]:
    """Find components that keep something else than the first of their kind."""
    for kind in dict.fromkeys(component.kind for component in components):
        dimensions, first = holds.equal_along(kind), dict[str, object]()
        for component in components:
            units, options = _kept(component, plan)
            if component.kind != kind or not units:
                continue
            for dimension in sorted(dimensions):
                value = units if dimension == "units" else getattr(options, dimension)
                if first.setdefault(dimension, value) != value:
                    reason = f"each {kind} that is kept must be like the others in {dimension}"
                    yield Refusal(site=component.name, reason=reason)
                    break
