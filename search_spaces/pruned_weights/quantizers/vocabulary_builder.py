"""Weights of the embedding and the head in number formats."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.quantizers.source_matrices import NO_SOURCES, SourceMatrices
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import SOURCE, STORED
from search_spaces.statistics import MatrixStatistics
from search_spaces.structure.model import ModelStructure


class VocabularyBuilder:
    """Makes the embedding and the head in number formats; nothing of them is pruned.

    All columns count the same: an embedding multiplies no inputs, and those of a head come out of
    a norm.

    Args:
        structure: Of the model.
        quantizer: One that `stack_quantizer` names.
        sources: Of matrices that are to stay as they came.
    """

    def __init__(
        self,
        structure: ModelStructure,
        quantizer: Quantizer,
        sources: SourceMatrices = NO_SOURCES,
    ) -> None:
        self._structure = structure
        self._sources = sources
        self._rewriting = Rewriting(quantizer=quantizer)

    def is_plain(self, _position: int, _count: int, options: BlockOptions) -> bool:
        return not options.rewrites

    def shapes(
        self, position: int, _count: int, _options: BlockOptions
    ) -> Mapping[str, tuple[int, ...]]:
        component = self._structure.components[position]
        weights = component.weights(self._structure.owner(component))
        return {path: tuple(weight.shape) for path, weight in weights.items()}

    def linear(
        self,
        _position: int,
        _choice: Choice,
        _path: str,
        quantized: QuantizedMatrix,
        bias: Tensor | None,
    ) -> LinearWeights:
        return LinearWeights(quantized.dequantized(), bias, quantized)

    @torch.no_grad()
    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[PrunedWeights]:
        component = self._structure.components[position]
        for choice in choices:
            with self._structure.resident(component) as owner:
                weights = component.weights(owner)
                yield {
                    path: self._formatted(position, choice, path, weight.float())
                    for path, weight in weights.items()
                }

    def _formatted(
        self, position: int, choice: Choice, path: str, weight: Tensor
    ) -> LinearWeights:
        _, options = choice
        if options.format == SOURCE:
            name = self._structure.tensor_name(self._structure.components[position], path)
            if self._sources.format_of(name) != STORED:
                quantized = self._sources.matrix(name, weight)
                return self.linear(position, choice, path, quantized, None)
            options = replace(options, format=STORED)
        statistics = _alike(weight.shape[1])
        return self._rewriting.rewritten(LinearWeights(weight), options, statistics)


def _alike(columns: int) -> MatrixStatistics:
    """Return statistics of a matrix whose columns all count the same."""
    return MatrixStatistics(tokens=columns, values={"input_second_moment": torch.ones(columns)})
