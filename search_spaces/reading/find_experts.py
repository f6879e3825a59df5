"""Reading mixtures of experts: their experts, and the shared expert next to them.

The unit is an expert, or one expert of each group where the router chooses groups first.
"""

from collections.abc import Collection

from search_spaces.errors import StructureError
from search_spaces.reading.expert_layout import read_stacks
from search_spaces.reading.expert_router import Routing, read_counts, read_routing
from search_spaces.reading.mlp import mlp_of
from search_spaces.reading.probe import LayerProbe
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.projections import Projections


def find_experts(probe: LayerProbe, others: Collection[str]) -> tuple[Component, ...]:
    """Return the experts of one layer, then their shared expert if any; empty: no experts.

    Args:
        probe: The layer.
        others: Paths of linear layers that belong to its attention.

    Raises:
        StructureError: If they are wired in a way that the planner does not know.
    """
    holders = [
        path
        for path, module in probe.layer.named_modules()
        if any(weight.ndim == 3 for weight in module.parameters(recurse=False))
    ]
    if not holders:
        return ()
    if len(holders) > 1:
        raise StructureError(
            f"a layer must hold its experts in one module, and `{probe.path}` has stacks in "
            f"{', '.join(f'`{path}`' for path in holders)}; this layer cannot be read"
        )
    routing = read_routing(probe, holders[0])
    shared = _shared(probe, others, routing)
    # without a shared expert the whole mixture is dropped, else only what holds the experts
    module = routing.holder if shared else routing.holder.rpartition(".")[0]
    mixture = Mixture(
        layer=probe.index,
        unit_count=routing.count,
        module=module,
        returns=probe.returns(module),
        private=(routing.router,) if shared else (),
        router=routing.router,
        router_rows=routing.rows,
        holder=routing.holder,
        top_k=routing.top_k,
    )
    mixture = read_counts(probe, read_stacks(probe, mixture, routing))
    return (mixture, shared) if shared else (mixture,)


def _shared(probe: LayerProbe, others: Collection[str], routing: Routing) -> Projections | None:
    """Return the expert that runs for every token, if there is one."""
    routed = (f"{routing.holder}.", f"{routing.router}.")
    by_parent: dict[str, list[str]] = {}
    for path in probe.linears:
        if path != routing.router and path not in others and not path.startswith(routed):
            by_parent.setdefault(path.rpartition(".")[0], []).append(path)
    # a single linear layer is no MLP but the gate of the shared expert
    mlps = [paths for paths in by_parent.values() if len(paths) > 1]
    if not mlps:
        return None
    if len(mlps) > 1:
        raise StructureError(
            f"a layer must have one shared expert at most, and `{probe.path}` has {len(mlps)}; "
            "this layer cannot be read"
        )
    return mlp_of(probe, mlps[0], "shared")
