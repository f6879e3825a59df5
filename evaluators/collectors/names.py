"""Which pass collects which statistics, and the paths under which they are stored."""

from collections.abc import Iterator, Mapping

from search_spaces.statistics import StatisticName
from search_spaces.structure.components import StatisticPlace
from search_spaces.structure.model import LayerStructure

OF_INPUTS: frozenset[StatisticName] = frozenset(
    {"input_mean", "input_magnitude", "input_second_moment", "gram"}
)
OF_WEIGHTS: frozenset[StatisticName] = frozenset({"gradient", "gradient_second_moment"})
OF_GATES: frozenset[StatisticName] = frozenset({"gate_fisher"})
BY_GRADIENT = OF_WEIGHTS | OF_GATES
"""Collected with the whole model in memory, and what autograd keeps of one window."""
OF_OUTPUTS: frozenset[StatisticName] = frozenset({"component_output"})
OF_HIDDEN: frozenset[StatisticName] = OF_OUTPUTS.union({"similarity", "angle"})
"""Of the hidden states before, between and behind the components of a layer."""
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

_PLACES: Mapping[StatisticPlace, frozenset[StatisticName]] = {
    "matrices": OF_INPUTS | OF_WEIGHTS,
    "gates": OF_GATES,
    "experts": OF_EXPERTS | OF_EXPERT_REMOVAL,
}
"""What is measured of components, by the place that each of them has paths for."""

PARTS = ("", "attention", "mlp")
"""Paths of statistics of a whole layer and of its two components."""

Key = tuple[StatisticName, str]


def keys_of(layer: LayerStructure, names: frozenset[StatisticName]) -> Iterator[Key]:
    """Yield the names and paths of all statistics of a layer."""
    for name in sorted(names | ALWAYS):
        place = next((place for place, of_place in _PLACES.items() if name in of_place), None)
        if place is not None:
            paths = [
                path for component in layer.components for path in component.statistic_paths(place)
            ]
        elif name in ALWAYS:
            paths = [""]
        elif name in OF_OUTPUTS:
            paths = list(PARTS[1:])
        else:
            paths = list(PARTS)
        yield from ((name, path) for path in paths)
