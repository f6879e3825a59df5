"""Plans of tiny models whose matrices are in number formats, carried out."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from planner.targets.cut_layers import CutLayers, cut_layers
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.types import LinearWeights, OrderedWeights
from search_spaces.space.number_format import FORMATS, STORED, NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.linear import bias
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from search_spaces.structure.projections import Projections
from tests.planner.export.exports import Units, plan_of


def quantized(weight: Tensor, number_format: NumberFormat) -> QuantizedMatrix:
    """Return a matrix or a stack of them, rounded to the nearest."""
    rows = weight.detach().reshape(-1, weight.shape[-1]).float()
    data = codec_of(number_format).encode(rows)
    return QuantizedMatrix(number_format, data.reshape(*weight.shape[:-1], -1))


def in_formats(
    structure: ModelStructure, kept: list[Units], formats: Mapping[str, str]
) -> CutLayers:
    """Carry out a plan.

    Args:
        structure: The dense model.
        kept: Of each component of its layers.
        formats: Names of number formats by kind of component; others stay as they are, and so does
            what does not fit.
    """
    model = structure.with_ends()
    whole = [np.arange(1)] * len(model.ends)
    plan = plan_of(model, [*kept, *whole])
    plain = cut_layers(model, plan)
    weights = []
    for position, component in enumerate(model.components):
        name = formats.get(component.kind, "")
        made = {}
        if name and len(plain.kept[position]):
            made = _weights(plain, component, FORMATS[name])
        weights.append(OrderedWeights(weights=made, order=np.arange(component.member_count)))
    return cut_layers(model, plan, weights)


def _weights(
    plain: CutLayers, component: Component, number_format: NumberFormat
) -> dict[str, LinearWeights]:
    is_end = component in plain.structure.ends
    owner = plain.structure.backbone.model if is_end else plain.layers[component.layer]
    made = {}
    for path, weight in component.weights(owner).items():
        if isinstance(component, Mixture) and path in component.router_rows:
            continue
        held = number_format.held(weight.shape[-1])
        offset = bias(owner.get_submodule(path)) if isinstance(component, Projections) else None
        matrix = None if held == STORED else quantized(weight, held)
        values = weight.detach() if matrix is None else matrix.dequantized()
        made[path] = LinearWeights(values.to(torch.float32), offset, matrix)
    return made
