"""Which pass collects which statistics, and the paths under which they are stored."""

from collections.abc import Iterator

from search_spaces.statistics import StatisticName
from search_spaces.structure.model import LayerStructure

OF_INPUTS: frozenset[StatisticName] = frozenset(
    {"input_mean", "input_magnitude", "input_second_moment", "gram"}
)
OF_WEIGHTS: frozenset[StatisticName] = frozenset({"gradient", "gradient_second_moment"})
OF_GATES: frozenset[StatisticName] = frozenset({"gate_fisher"})
BY_GRADIENT = OF_WEIGHTS | OF_GATES
"""Collected with the whole model in memory, and what autograd keeps of one window."""
OF_HIDDEN: frozenset[StatisticName] = frozenset({"similarity", "angle"})
OF_REMOVAL: frozenset[StatisticName] = frozenset({"removal_nll"})
OF_ROUTES: frozenset[StatisticName] = frozenset(
    {
        "expert_frequency",
        "expert_weight",
        "expert_first",
        "expert_confidence",
        "expert_selection",
        "routing_gram",
    }
)
OF_EXPERT_RUNS: frozenset[StatisticName] = frozenset(
    {"expert_output", "expert_input_energy", "expert_channel_energy"}
)
OF_EXPERT_TURNS: frozenset[StatisticName] = frozenset({"expert_reconstruction"})
OF_EXPERTS = OF_ROUTES | OF_EXPERT_RUNS | OF_EXPERT_TURNS
"""Collected as hidden states pass through each layer."""
OF_EXPERT_REMOVAL: frozenset[StatisticName] = frozenset({"expert_acceptance"})
ALWAYS: frozenset[StatisticName] = frozenset({"tokens", "hidden_energy"})

PARTS = ("", "attention", "mlp")
"""Paths of statistics of a whole layer and of its two components."""

Key = tuple[StatisticName, str]


def keys_of(layer: LayerStructure, names: frozenset[StatisticName]) -> Iterator[Key]:
    """Yield the names and paths of all statistics of a layer."""
    components = [component for component in layer.components if component.experts is None]
    for name in sorted(names | ALWAYS):
        if name in OF_INPUTS | OF_WEIGHTS:
            paths = [
                projection.path for component in components for projection in component.projections
            ]
        elif name in OF_GATES:
            paths = [component.projections[-1].path for component in components]
        elif name in OF_EXPERTS | OF_EXPERT_REMOVAL:
            paths = [b.experts.holder for b in layer.components if b.experts is not None]
        elif name in ALWAYS:
            paths = [""]
        else:
            paths = list(PARTS)
        yield from ((name, path) for path in paths)
