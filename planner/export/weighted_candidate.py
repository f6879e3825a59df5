"""A candidate of a search whose weights were fitted, and so are no slices of the dense ones."""

from dataclasses import dataclass

import torch
from torch import Tensor

from planner.export.hf.model_folder import OrderedWeights
from planner.export.proof import logits_of
from planner.preparation.prepared_model import PreparedModel
from search_spaces.space.configuration import Configurations
from search_spaces.surgery.sort import sort_units_


@dataclass(frozen=True, kw_only=True)
class WeightedCandidate:
    """A candidate with pruned weights, which are no slices of the dense ones."""

    prepared: PreparedModel
    """The model as it was prepared for the search; sorted."""
    configurations: Configurations
    """``(components,)``"""

    @torch.inference_mode()
    def read(self, tokens: Tensor) -> tuple[Tensor, list[OrderedWeights]]:
        """Return its logits as they were scored, and its weights; the model is unsorted again."""
        structure, space = self.prepared.dense.structure, self.prepared.space
        logits = logits_of(structure, self.configurations, tokens, self.prepared.layer_builder)
        weights = [
            (order, self.prepared.layer_builder.weights(position, int(configuration)))
            for position, (order, configuration) in enumerate(
                zip(space.orders, self.configurations, strict=True)
            )
        ]
        sort_units_(structure, space.orders.inverse())
        return logits, weights
