"""What the bundled modelling code must know about a family: which tensors shrink with what."""

from typing import Any

from torch import nn

from planner.export.hf.layout import is_sequential
from search_spaces.structure.components import Component
from search_spaces.structure.experts import Experts
from search_spaces.structure.linear import bias
from search_spaces.structure.model import ModelStructure


def describe_wiring(structure: ModelStructure) -> dict[str, Any]:
    """Return the wiring of each kind of layer, as ``config.wiring`` holds it."""
    kinds: list[dict[str, Any]] = []
    kind_of: list[int] = []
    for index, dense in enumerate(structure.layers):
        layer = structure.backbone.layers[index]
        wiring: dict[str, Any] = {
            component.kind: _describe(component, layer) for component in dense.components
        }
        if wiring not in kinds:
            kinds.append(wiring)
        kind_of.append(kinds.index(wiring))
    return {
        "stack": structure.backbone.stack_path,
        "sequential": is_sequential(structure),
        "kinds": kinds,
        "kind_of": kind_of,
    }


def _describe(component: Component, layer: nn.Module) -> dict[str, Any]:
    description: dict[str, Any] = {
        "module": component.module,
        "returns": component.returns,
        "private": list(component.private),
    }
    if component.experts is not None:
        return description | _describe_experts(component.experts)
    amounts = {
        p.path: (p.side, len(p.units) // component.unit_count) for p in component.projections
    }
    return description | {
        "rows": {path: amount for path, (side, amount) in amounts.items() if side == "rows"},
        "columns": {path: amount for path, (side, amount) in amounts.items() if side == "columns"},
        "attributes": dict(component.attributes),
        "units": component.unit_count,
        "gains_bias": bias(layer.get_submodule(component.projections[-1].path)) is None,
    }


def _describe_experts(experts: Experts) -> dict[str, Any]:
    return {
        "router": experts.router,
        "router_rows": list(experts.router_rows),
        "stacks": [
            {
                "path": stack.path,
                "axis": stack.axis,
                "features": len(stack.channels) // experts.channel_count,
            }
            for stack in experts.stacks
        ],
        "count_attributes": [list(pair) for pair in experts.count_attributes],
        "top_k_attributes": [list(pair) for pair in experts.top_k_attributes],
    }
