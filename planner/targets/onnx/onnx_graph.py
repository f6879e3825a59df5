"""Writing stacks of a model's layers as ONNX: each shape of layer is traced once, and copied."""

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir
import torch
from torch import nn

from evaluators.latency.latency_setting import layer_kinds
from planner.targets.onnx.dense_probe import CacheShape, DenseProbe
from planner.targets.onnx.graph_assembly import GraphAssembly, Template
from planner.targets.onnx.layer_tracing import Trace, trace
from planner.targets.onnx.onnx_runtime import MODEL_FILE
from planner.targets.onnx.placed_layer import LayerShape, PlacedLayer
from search_spaces.structure.model import ModelStructure

_Key = tuple[int, int, LayerShape]
"""Kind of the dense layer, groups of the attention, and shapes of the tensors."""


class GraphWriter:
    """Writes stacks of layers of one model, in float32.

    Args:
        structure: The dense model, in memory.
    """

    def __init__(self, structure: ModelStructure) -> None:
        floats = _in_float32(structure)
        self._backbone = floats.backbone
        self._probe = DenseProbe.of(floats)
        # GPT-2 may scale scores by the layer's number: then no layer is like another
        by_number = getattr(self._backbone.model.config, "scale_attn_by_inverse_layer_idx", False)
        places = range(len(structure.layers))
        kinds = [(place,) for place in places] if by_number else layer_kinds(structure)
        self._kind_of = {place: kind for kind, group in enumerate(kinds) for place in group}
        self._templates: dict[_Key, Template] = {}
        self._with_fixed_width: set[_Key] = set()
        """Shapes of any width in whose graph the width stands all the same."""
        self._ends: Trace | None = None

    def prepare(self, stacks: Iterable[Sequence[PlacedLayer]]) -> None:
        """Trace what some stacks need together, which is quicker than for each when it is written.

        Raises:
            TargetError: If the model's code cannot be traced.
        """
        layers = [layer for stack in stacks for layer in stack]
        while (chosen := self._untraced(layers)) or self._ends is None:
            self._trace(chosen)

    def write(self, folder: Path, layers: Sequence[PlacedLayer]) -> None:
        """Write a model with a stack of layers in the place of its own.

        Args:
            folder: Where `MODEL_FILE` and its weights are written.
            layers: In the order in which they run.

        Raises:
            TargetError: If the model's code cannot be traced.
        """
        self.prepare([layers])
        assert self._ends is not None
        assembly = GraphAssembly(self._ends, [self.cache(layer) for layer in layers])
        for layer in layers:
            assembly.append(self._templates[self._key(layer)], layer.place, layer.tensors)
        onnx_ir.save(assembly.finished(), folder / MODEL_FILE, external_data=f"{MODEL_FILE}.data")

    def cache(self, layer: PlacedLayer) -> CacheShape | None:
        """Return what a layer keeps of each token; None: it has no attention."""
        if not layer.groups:
            return None
        dense = self._probe.caches[layer.place]
        (attention,) = (each for each in layer.components if each.mixes_tokens)
        return replace(dense, heads=dense.heads // attention.unit_count * layer.groups)

    def _untraced(self, layers: Sequence[PlacedLayer]) -> dict[int, PlacedLayer]:
        """Choose layers for one trace, at most one of each place and each missing shape."""
        chosen: dict[_Key, PlacedLayer] = {}
        places: set[int] = set()
        for layer in layers:
            key = self._key(layer)
            if key not in self._templates and key not in chosen and layer.place not in places:
                chosen[key] = layer
                places.add(layer.place)
        return {layer.place: layer for layer in chosen.values()}

    def _trace(self, chosen: Mapping[int, PlacedLayer]) -> None:
        modules = {place: _floats(layer.module) for place, layer in chosen.items()}
        caches = {place: cache for place in sorted(chosen) if (cache := self.cache(chosen[place]))}
        traced = trace(self._backbone, self._probe, modules, caches)
        self._ends = self._ends or traced
        for place, layer in chosen.items():
            template = Template(
                boundary=traced.layers[place],
                trace=traced,
                prefix=f"model.{self._backbone.layer_paths[place]}.",
            )
            if not layer.widths.isdisjoint(template.integers()):
                self._with_fixed_width.add(self._key(layer))
            self._templates[self._key(layer)] = template

    def _key(self, layer: PlacedLayer) -> _Key:
        kind = self._kind_of[layer.place]
        key = kind, layer.groups, layer.shape(any_width=True)
        if key in self._with_fixed_width:
            return kind, layer.groups, layer.shape(any_width=False)
        return key


def number_count(folder: Path, names: Container[str]) -> int:
    """Return how many numbers a written graph holds under some names of tensors."""
    weights = onnx_ir.load(folder / MODEL_FILE).graph.initializers.values()
    return sum(
        weight.const_value.size
        for weight in weights
        if str(weight.name) in names and weight.const_value is not None
    )


def _in_float32(structure: ModelStructure) -> ModelStructure:
    if structure.backbone.model.dtype == torch.float32:
        return structure
    copied = copy.deepcopy(structure)
    _cast_(copied.backbone.model)
    return copied


def _floats(layer: nn.Module) -> nn.Module:
    if all(weight.dtype == torch.float32 for weight in layer.parameters()):
        return layer
    copied = copy.deepcopy(layer)
    _cast_(copied)
    return copied


def _cast_(module: nn.Module) -> None:
    """Cast weights; tables and other buffers keep their precision."""
    for weight in module.parameters():
        weight.data = weight.data.float()
