"""Weights of the embedding and the head in number formats."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.statistics import MatrixStatistics
from search_spaces.structure.model import ModelStructure


class VocabularyBuilder:
    """Makes the embedding and the head in number formats; nothing of them is pruned.

    All columns count the same: an embedding multiplies no inputs, and those of a head come out of
    a norm.

    Args:
        structure: Of the model.
        quantizer: One that `stack_quantizer` names.
    """

    def __init__(self, structure: ModelStructure, quantizer: Quantizer) -> None:
        self._structure = structure
        self._rewriting = Rewriting(quantizer=quantizer)

    def is_plain(self, _position: int, _count: int, options: BlockOptions) -> bool:
        return not options.rewrites

    def shapes(
        self, position: int, _count: int, _options: BlockOptions
    ) -> Mapping[str, tuple[int, ...]]:
        component = self._structure.components[position]
        weights = component.weights(self._structure.owner(component))
        return {path: tuple(weight.shape) for path, weight in weights.items()}

    def as_matrices(self, _position: int, _path: str, weight: Tensor) -> Tensor:
        return weight

    @torch.no_grad()
    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[PrunedWeights]:
        component = self._structure.components[position]
        for _, options in choices:
            with self._structure.resident(component) as owner:
                weights = component.weights(owner)
                yield {
                    path: self._rewriting.rewritten(
                        LinearWeights(weight.float()), options, _alike(weight.shape[1])
                    )
                    for path, weight in weights.items()
                }


def _alike(columns: int) -> MatrixStatistics:
    """Return statistics of a matrix whose columns all count the same."""
    return MatrixStatistics(tokens=columns, values={"input_second_moment": torch.ones(columns)})
