"""The steps of a model that candidates take one after the other, and may part at."""

from dataclasses import dataclass
from itertools import pairwise

from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True)
class Step:
    """The least that is run at once: one component, or a layer that cannot be split."""

    layer: int
    start: int
    """Position of the first component that it runs."""
    stop: int
    """Position after the last one."""


def steps_of(structure: ModelStructure) -> tuple[Step, ...]:
    """Return the steps of a model in the order in which they run."""
    steps = []
    for index, (layer, span) in enumerate(zip(structure.layers, structure.spans, strict=True)):
        # experts and the shared expert read the same input: they run as one
        middle = [span.start + 1] if layer.splits and len(layer.components) > 1 else []
        steps += [Step(index, *ends) for ends in pairwise([span.start, *middle, span.stop])]
    return tuple(steps)
