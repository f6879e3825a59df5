"""What the bundled modelling code must know of a family: which matrices shrink with what."""

from typing import Any

from torch import nn

from planner.export.layout import is_sequential
from search_spaces.errors import StructureError
from search_spaces.structure.linears import bias
from search_spaces.structure.read import ModelStructure
from search_spaces.structure.sub_block import SubBlock


def describe_wiring(structure: ModelStructure) -> dict[str, Any]:
    """Give the wiring that all layers share, as it stands in ``config.wiring``.

    Raises:
        StructureError: Where layers differ from one another.
    """
    described = [
        {
            kind: _describe(block, structure.backbone.layers[block.layer])
            for kind, block in (("attention", layer.attention), ("mlp", layer.mlp))
        }
        for layer in structure.layers
    ]
    for index, wiring in enumerate(described):
        if wiring != described[0]:
            raise StructureError(
                "the layers of a model must be wired alike to be exported at different widths, "
                f"and layer {index} differs from layer 0; choose a plan that only drops layers"
            )
    heads = structure.backbone.model.config.get_text_config().num_attention_heads
    described[0]["attention"]["heads"] = heads // structure.layers[0].attention.unit_count
    return {
        "stack": structure.backbone.stack_path,
        "sequential": is_sequential(structure),
        **described[0],
    }


def _describe(block: SubBlock, layer: nn.Module) -> dict[str, Any]:
    amounts = {p.path: (p.side, len(p.units) // block.unit_count) for p in block.projections}
    return {
        "module": block.module,
        "returns": block.returns,
        "private": list(block.private),
        "rows": {path: amount for path, (side, amount) in amounts.items() if side == "rows"},
        "columns": {path: amount for path, (side, amount) in amounts.items() if side == "columns"},
        "attributes": dict(block.attributes),
        "units": block.unit_count,
        "gains_bias": bias(layer.get_submodule(block.projections[-1].path)) is None,
    }
