"""A plan cut out of a prepared model: layers that own their weights, and so may be trained."""

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from planner.preparation.prepared_model import PreparedModel
from planner.recovery.recovered_weights import RecoveredWeights, place_
from planner.targets.cut_layers import CutLayers
from search_spaces.pruned_weights.types import OrderedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Configurations
from search_spaces.space.plan import Plan
from search_spaces.surgery.graft import graft
from search_spaces.surgery.slice_and_cut import cut, permute_


@dataclass(frozen=True, kw_only=True)
class CutPlan:
    """What a plan keeps of a prepared model, as layers of their own; the model stays as it is.

    A cut layer is what an export of the plan holds: its units are in the model's own order, and
    its weights are those that the plan was scored with, or recovered ones.
    """

    prepared: PreparedModel
    plan: Plan
    """Of the prepared model's space."""
    recovered: RecoveredWeights | None = None
    """Take the place of the weights of the same names; `None`: all are as searched."""

    @cached_property
    def configurations(self) -> Configurations:
        """What the plan comes to for each component, ``(components,)``."""
        return self.prepared.space.configurations_of(self.plan)

    def options(self, position: int) -> BlockOptions:
        """Return the options of what a component keeps."""
        _, options = self.prepared.space.tables[position][int(self.configurations[position])]
        return options

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def layer(self, index: int) -> nn.Module:
        """Return a cut layer, which shares no weight with the dense model."""
        sorted_model = self.prepared.sorted_model
        structure, orders = sorted_model.structure, sorted_model.orders
        span = structure.spans[index]
        ordered = [
            OrderedWeights(
                weights=self.prepared.layer_builder.weights(
                    position, int(self.configurations[position])
                ),
                order=orders[position],
            )
            for position in range(span.start, span.stop)
        ]
        with structure.backbone.resident(index) as dense:
            own = _copied(dense)
        inverse, components = orders.inverse(), structure.components[span]
        for position, component in enumerate(components, span.start):
            permute_(own, component, inverse[position], inverse.channels.get(position))
        layer = cut(
            own,
            list(zip(components, self._kept[span], strict=True)),
            ordered,
            [self.plan.expert_pruning(component) for component in components],
        )
        if self.recovered is not None:
            place_(layer, self.recovered.of_layer(index))
        return layer

    def layers(self) -> CutLayers:
        """Return all cut layers, as an export writes them."""
        structure = self.prepared.sorted_model.structure
        components = structure.components
        return CutLayers(
            structure=structure,
            layers=tuple(self.layer(index) for index in range(len(structure.layers))),
            kept=tuple(self._kept),
            insides=tuple(map(self.plan.expert_pruning, components)),
            plan_id=self.plan.plan_id,
        )

    def model(self) -> PreTrainedModel:
        """Return the cut layers in a copy of the model, which shares all else with it.

        Calling it gives logits. What it shares, its embeddings, last norm and head, must not be
        trained: every score is read out through the dense model's.
        """
        backbone = self.prepared.sorted_model.structure.backbone
        layers = {path: self.layer(index) for index, path in enumerate(backbone.layer_paths)}
        model = graft(backbone.model, layers)
        assert isinstance(model, PreTrainedModel)
        return model

    def changed_layers(self) -> Sequence[int]:
        """Return the numbers of the layers that keep less than all, ascending."""
        dense = np.array([table.dense for table in self.prepared.space.tables])
        changed = self.configurations != dense
        spans = self.prepared.sorted_model.structure.spans
        return [index for index, span in enumerate(spans) if changed[span].any()]

    @cached_property
    def _kept(self) -> Sequence[np.ndarray]:
        return self.plan.kept_units(self.prepared.sorted_model.structure.components)


def _copied(layer: nn.Module) -> nn.Module:
    """Return a copy of a layer with weights of its own, which never reads itself from disk."""
    copied = copy.deepcopy(layer)
    copied._forward_pre_hooks, copied._forward_hooks = OrderedDict(), OrderedDict()
    return copied
