"""What a plan keeps of each layer, from the folder of its run alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from planner.runs.space_description import SpaceDescription

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
                "options": ", ".join(
                    f"{name} {value}" for name, value in kept[component.name].options.items()
                ),
            }
            for component in space.components
        ]
    )
