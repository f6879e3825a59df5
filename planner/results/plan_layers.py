"""What a plan keeps of each layer, from the folder of its run alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.runs.space_description import ComponentDescription, Kept, SpaceDescription

if TYPE_CHECKING:
    import pandas as pd


def layer_frame(space: SpaceDescription, genome: Sequence[int]) -> "pd.DataFrame":
    """Return what a genome keeps, one row a component, layer by layer.

    Returns:
        ``layer``; ``component``, its kind; ``kept`` of how many, ``of``; ``unit``: what these
        are; ``share`` that is kept; ``options``: how they are stored and run, empty if as in the
        dense model.

    Raises:
        RunError: If the genome is none of this space.
    """
    import pandas as pd  # noqa: PLC0415  (60 MB that scoring can do without)

    kept = space.kept(genome)
    return pd.DataFrame(
        [
            {
                "layer": component.layer,
                "component": component.kind,
                "kept": kept[component.name].units,
                "of": component.units,
                "unit": component.unit,
                "share": kept[component.name].units / component.units,
                "options": _option_text(component, kept[component.name]),
            }
            for component in space.components
        ]
    )


def _option_text(component: ComponentDescription, kept: Kept) -> str:
    of = {"channels": component.channels, "top_k": component.top_k}
    texts = (
        f"{name} {value} of {of[name]}" if name in of else f"{name} {value}"
        for name, value in kept.options.items()
    )
    return ", ".join(texts)


def options_of(text: str) -> dict[str, str]:
    """Return the options in a row of `layer_frame` by name.

    >>> options_of("channels 256 of 512, pattern 2:4")
    {'channels': '256 of 512', 'pattern': '2:4'}
    """
    return {name: value for name, _, value in (o.partition(" ") for o in text.split(", ")) if name}
