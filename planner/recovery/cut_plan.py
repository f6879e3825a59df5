"""A plan cut out of a prepared model: layers that own their weights, and so may be trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from evaluators.scoring.ends import Ends, OwnEnds
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.healing.weight_places import copied_layer, update_
from planner.recovery.recovered_weights import RecoveredWeights, Storage, matrices_in, place_
from planner.targets.cut_layers import CutLayers, Matrices, quantized_of, with_ends_of
from search_spaces.pruned_weights.types import OrderedWeights, PrunedWeights, stays_sorted
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Configurations
from search_spaces.space.number_format import STORED
from search_spaces.space.plan import Plan
from search_spaces.structure.graft import graft
from search_spaces.structure.mixture import Mixture
from search_spaces.surgery.rounded_cache import WithRoundedCache
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
    shared: RecoveredWeights | None = None
    """Updates of the dense weights, which all plans of a front share; `None`: there are none."""

    @cached_property
    def configurations(self) -> Configurations:
        """What the plan comes to for each component, ``(components,)``."""
        return self.prepared.space.configurations_of(self.plan)

    @cached_property
    def ends(self) -> OwnEnds:
        """How the plan embeds and reads out, in its number formats."""
        structure = self.prepared.sorted_model.structure
        return Ends(structure, self.prepared.layer_builder).of(self.configurations)

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
        ordered = [self._ordered(position) for position in range(span.start, span.stop)]
        with structure.backbone.resident(index) as dense:
            own = copied_layer(dense)
        inverse, components = orders.inverse(), structure.components[span]
        for position, component in enumerate(components, span.start):
            permute_(own, component, inverse[position], inverse.channels.get(position))
        layer = cut(
            own,
            list(zip(components, self.kept[span], strict=True)),
            ordered,
            [self.plan.expert_pruning(component) for component in components],
        )
        if self.recovered is not None:
            place_(layer, self.recovered.of_layer(index))
        if self.shared is not None:
            update_(layer, self, index, self.shared.of_layer(index))
        return layer

    def scored_layer(self, index: int) -> nn.Module:
        """Return a cut layer as it is scored: keys and values as the plan's cache has them."""
        structure = self.prepared.sorted_model.structure
        span, layer = structure.spans[index], self.layer(index)
        for position in range(span.start, span.stop):
            cache, component = self.options(position).cache, structure.components[position]
            if len(self.kept[position]) and component.cached_features and cache != STORED:
                return WithRoundedCache(layer, cache)
        return layer

    def _weights(self, position: int) -> PrunedWeights:
        """Return a component's weights that are no slices of the dense ones."""
        configuration = int(self.configurations[position])
        return self.prepared.layer_builder.weights(position, configuration)

    def quantized(self, index: int) -> Matrices:
        """Return the bytes of a cut layer's matrices in number formats, by their tensors' paths.

        They are its own, as the layer's weights are.
        """
        structure = self.prepared.sorted_model.structure
        span = structure.spans[index]
        weights = [self._ordered(position) for position in range(span.start, span.stop)]
        recovered = self.recovered.of_layer(index) if self.recovered else {}
        searched = quantized_of(structure.components[span], weights)
        matrices = {**searched, **matrices_in(recovered)}
        return {path: replace(each, data=each.data.clone()) for path, each in matrices.items()}

    def storage(self, position: int, path: str) -> Storage:
        """Return how a weight of a component is stored, by its path."""
        component = self.prepared.sorted_model.structure.components[position]
        methods, is_mixture = self.prepared.methods, isinstance(component, Mixture)
        return Storage(
            is_dense=self.options(position).pattern.is_dense,
            quantized=self.quantized(component.layer).get(component.tensor_path(path)),
            quantizer=methods.experts.quantizer if is_mixture else methods.rewriting.quantizer,
        )

    def _ordered_ends(self) -> list[OrderedWeights]:
        structure = self.prepared.sorted_model.structure
        return [
            self._ordered(position)
            for position in range(structure.spans[-1].stop, len(structure.components))
        ]

    def _ordered(self, position: int) -> OrderedWeights:
        order = self.prepared.sorted_model.orders[position]
        return OrderedWeights(weights=self._weights(position), order=order)

    def stays_sorted(self, position: int) -> bool:
        """Return whether the units of a cut component are in pruning order."""
        component = self.prepared.sorted_model.structure.components[position]
        return stays_sorted(self._weights(position), component)

    def layers(self) -> CutLayers:
        """Return all cut layers, as an export writes them."""
        structure = self.prepared.sorted_model.structure
        components, count = structure.components, len(structure.layers)
        ends = self._ordered_ends()
        quantized = tuple(map(self.quantized, range(count)))
        return CutLayers(
            structure=with_ends_of(structure, ends),
            layers=tuple(map(self.layer, range(count))),
            kept=tuple(self.kept),
            insides=tuple(map(self.plan.expert_pruning, components)),
            plan_id=self.plan.plan_id,
            quantized=quantized if any(quantized) else (),
            quantized_ends=quantized_of(structure.ends, ends),
        )

    def model(self) -> PreTrainedModel:
        """Return the cut layers in a copy of the model, which shares all else with it.

        Calling it gives logits. Its embeddings, last norm and head must not be trained: every
        score is read in and out through those that the plan chose.
        """
        structure = with_ends_of(self.prepared.sorted_model.structure, self._ordered_ends())
        layers = {path: self.layer(i) for i, path in enumerate(structure.backbone.layer_paths)}
        model = graft(structure.backbone.model, layers)
        assert isinstance(model, PreTrainedModel)
        return model

    def changed_layers(self) -> Sequence[int]:
        """Return the numbers of the layers that keep less than all, ascending."""
        dense = np.array([table.dense for table in self.prepared.space.tables])
        changed = self.configurations != dense
        spans = self.prepared.sorted_model.structure.spans
        return [index for index, span in enumerate(spans) if changed[span].any()]

    @cached_property
    def kept(self) -> Sequence[NDArray[np.int_]]:
        """The members that each component keeps, ascending, as numbered in the model."""
        return self.plan.kept_units(self.prepared.sorted_model.structure.components)
