"""Number formats that a target does not keep: what it writes of their matrices in their place."""

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from planner.export.reference import Reference
from planner.targets.cut_layers import CutLayers, logits_of_layers
from planner.targets.target import Target
from search_spaces.models.loading import LoadedModel
from search_spaces.space.number_format import NumberFormat
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from search_spaces.structure.graft import substitute_
from search_spaces.structure.model import ModelStructure


def lost_formats(plan: Plan, target: Target, structure: ModelStructure) -> Iterator[Component]:
    """Yield the components whose matrices a target writes dequantised.

    Args:
        plan: That chose number formats.
        target: That writes it.
        structure: The dense model.
    """
    for component in structure.components:
        kept = plan.sites[component.name]
        if kept.kept and kept.format:
            number_format = NumberFormat.parse(kept.format)
            if not target.keeps(structure, component, number_format):
                yield component


def rounded_as_written_(
    plan: Plan, target: Target, cut: CutLayers, reference: Reference, dense: LoadedModel
) -> Reference:
    """Round what a target writes dequantised to the dtype that it is written in.

    Scale times integer takes more digits than 16 bits have, so that no such file computes what
    was scored to the last digit: it is proved to compute what these numbers do.

    Args:
        plan: That chose number formats.
        target: That writes it.
        cut: What it writes; changed in place.
        reference: What was scored.
        dense: The dense model.

    Returns:
        What the export must compute.
    """
    lost = [*lost_formats(plan, target, cut.structure)]
    if not lost:
        return reference
    structure, in_formats = cut.structure, cut.in_formats
    for component in lost:
        is_end = component in structure.ends
        owner = structure.backbone.model if is_end else cut.layers[component.layer]
        for path in component.weights(owner):
            name = structure.tensor_name(component, path)
            if name in in_formats:
                _round_(owner, component.tensor_path(path), name, dense)
    logits = logits_of_layers(structure, cut.layers, reference.tokens)
    return replace(reference, logits=logits)


def _round_(owner: nn.Module, name: str, dense_name: str, dense: LoadedModel) -> None:
    """Round a weight to the dtype that it is written in."""
    weight = owner.get_parameter(name)
    stored = weight.to(dense.stored.of(dense_name, weight)).to(weight)
    substitute_(owner, weight, nn.Parameter(stored, requires_grad=False))
