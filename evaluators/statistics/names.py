"""Which statistics come of which pass, and under which paths they stand."""

from collections.abc import Iterator

from search_spaces.statistics import StatisticName
from search_spaces.structure.read import LayerStructure

OF_INPUTS: frozenset[StatisticName] = frozenset(
    {"input_mean", "input_magnitude", "input_second_moment", "gram"}
)
OF_WEIGHTS: frozenset[StatisticName] = frozenset({"gradient", "gradient_second_moment"})
OF_GATES: frozenset[StatisticName] = frozenset({"gate_fisher"})
BY_GRADIENT = OF_WEIGHTS | OF_GATES
"""They need the whole model in memory, with what autograd keeps of one window."""
OF_HIDDEN: frozenset[StatisticName] = frozenset({"similarity", "angle"})
OF_REMOVAL: frozenset[StatisticName] = frozenset({"removal_nll"})
ALWAYS: frozenset[StatisticName] = frozenset({"tokens", "hidden_energy"})

PARTS = ("", "attention", "mlp")
"""Paths of what is measured of a layer and of its two sub-blocks."""

Key = tuple[StatisticName, str]


def keys_of(layer: LayerStructure, wanted: frozenset[StatisticName]) -> Iterator[Key]:
    """List names and paths of all that is measured of a layer."""
    blocks = [block for block in layer.sub_blocks if block.experts is None]
    for name in sorted(wanted | ALWAYS):
        if name in OF_INPUTS | OF_WEIGHTS:
            paths = [projection.path for block in blocks for projection in block.projections]
        elif name in OF_GATES:
            paths = [block.projections[-1].path for block in blocks]
        elif name in ALWAYS:
            paths = [""]
        else:
            paths = list(PARTS)
        yield from ((name, path) for path in paths)
