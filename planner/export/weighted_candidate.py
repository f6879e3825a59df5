"""A candidate of a search whose weights were fitted, and so are no slices of the dense ones."""

import logging
from dataclasses import dataclass

import torch

from planner.export.reference import Reference, logits_of, reference_of
from planner.preparation.prepared_model import PreparedModel
from search_spaces.pruned_weights.types import OrderedWeights
from search_spaces.pruned_weights.weight_record import rebuilt_sentence
from search_spaces.space.configuration import Configurations

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WeightedCandidate:
    """A candidate with pruned weights, which are no slices of the dense ones."""

    prepared: PreparedModel
    """The model as it was prepared for the search."""
    configurations: Configurations
    """``(components,)``"""

    @torch.inference_mode()
    def read(self) -> tuple[Reference, list[OrderedWeights]]:
        """Return what it computes as it was scored, and its weights."""
        sorted_model, layer_builder = self.prepared.sorted_model, self.prepared.layer_builder
        self.prepared.weight_record.differences.clear()  # of other candidates'
        reference = reference_of(
            lambda tokens: logits_of(sorted_model, self.configurations, tokens, layer_builder),
            self.prepared.dense.loaded.model,
        )
        weights = [
            OrderedWeights(
                weights=layer_builder.weights(position, int(configuration)),
                order=sorted_model.orders[position],
            )
            for position, configuration in enumerate(self.configurations)
        ]
        if self.notes:
            logger.warning(
                "%s; where that matters, search again, or export on the machine that searched",
                self.notes[0].removesuffix("."),
            )
        return reference, weights

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on how the weights that were read differ from those that were scored."""
        differences = self.prepared.weight_record.differences
        return (rebuilt_sentence(differences),) if differences else ()
