"""Making pruned weights: by the builder of the component's kind, then rounded as stored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.pruned_weights.expert_builder import ExpertBuilder
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.quantizers.vocabulary_builder import VocabularyBuilder
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.projections import Projections
from search_spaces.structure.vocabulary_matrix import VocabularyMatrix


class ComponentBuilder(Protocol):
    """Makes the weights of one kind of component that are no slices of the dense ones."""

    def is_plain(self, position: int, count: int, options: BlockOptions) -> bool:
        """Return whether all weights of a component that keeps some units are such slices."""
        ...

    def shapes(
        self, position: int, count: int, options: BlockOptions
    ) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of all its weights by path, whether slices or not."""
        ...

    def linear(
        self,
        position: int,
        choice: Choice,
        path: str,
        quantized: QuantizedMatrix,
        bias: Tensor | None,
    ) -> LinearWeights:
        """Return what the bytes of a weight stand for, as they are in a choice of a component."""
        ...

    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[PrunedWeights]:
        """Make the weights of several choices of one component.

        Args:
            position: Of the component.
            choices: Ascending by the units kept; all widths among them share what they can.

        Yields:
            For each choice its weights, in float32; those in a number format are what its bytes
            stand for.

        Raises:
            DataError: If the statistics are of far too few tokens.
            SettingsError: If a pattern does not fit a matrix.
        """
        ...


class WeightBuilder:
    """Makes the pruned weights of any component at any choice.

    Args:
        projections: Makes those of attentions, MLPs and shared experts.
        experts: Makes those of mixtures; None: all are slices of the dense ones.
        ends: Makes those of the embedding and the head; None: they are the dense ones.
        dtype: Of weights that are in no number format: they are rounded to it, and both scored and
            exported so.
        progress: Told what is made, which may take longer than scoring with it.
    """

    def __init__(
        self,
        projections: ProjectionBuilder,
        experts: ExpertBuilder | None = None,
        ends: VocabularyBuilder | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        progress: Progress = NO_PROGRESS,
    ) -> None:
        self.components = projections.components
        self.dtype = dtype
        self._projections = projections
        self._experts = experts
        self._ends = ends
        self._progress = progress
        self._made_count = 0

    def is_plain(self, position: int, count: int, options: BlockOptions) -> bool:
        """Return whether all weights of a choice are slices of the dense ones."""
        builder = self._builder(position)
        return builder is None or builder.is_plain(position, count, options)

    def shapes(
        self, position: int, count: int, options: BlockOptions
    ) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes of all weights of a choice by path, whether slices or not."""
        builder = self._builder(position)
        return {} if builder is None else builder.shapes(position, count, options)

    def linear(
        self,
        position: int,
        choice: Choice,
        path: str,
        quantized: QuantizedMatrix,
        bias: Tensor | None,
    ) -> LinearWeights:
        """Return what the bytes of a weight stand for, as they are in a choice of a component."""
        builder = self._builder(position)
        assert builder is not None, "plain weights are not stored"
        return builder.linear(position, choice, path, quantized, bias)

    def build(
        self,
        position: int,
        choices: Sequence[Choice],
        compensated: PrunedWeights | None = None,
    ) -> Iterator[PrunedWeights]:
        """Make the pruned weights of several choices, as a `ComponentBuilder` does, rounded.

        Args:
            position: Of the component.
            choices: Ascending by the units kept; all widths among them share what they can.
            compensated: Those at the width of a single choice, to make others from them; None:
                they are made with it.
        """
        builder = self._builder(position)
        assert builder is not None, "plain weights are not built"
        self._tell(position, choices, 0)
        if compensated is None:
            made = builder.build(position, choices)
        else:
            made = self._projections.build(position, choices, compensated)
        for done, weights in enumerate(made, start=1):
            yield {path: self._stored(matrix) for path, matrix in weights.items()}
            self._made_count += 1
            if done < len(choices):
                self._tell(position, choices, done)

    def _stored(self, matrix: LinearWeights) -> LinearWeights:
        """Round to the dtype of stored weights what has no bytes of its own."""
        weight, offset = matrix.weight, matrix.bias
        return replace(
            matrix,
            weight=(weight.to(self.dtype) if matrix.quantized is None else weight).contiguous(),
            bias=None if offset is None else offset.to(self.dtype),
        )

    def _tell(self, position: int, choices: Sequence[Choice], done: int) -> None:
        """Say which of some choices of a component is being made: the first takes the longest."""
        count, options = choices[done]
        place = f" ({done + 1} of {len(choices)})" if len(choices) > 1 else ""
        parts = [self.components[position].name, f"{count} kept{place}", options.weights_name]
        what = ", ".join(filter(None, parts))
        self._progress.note(f"making weights ({self._made_count} made so far): {what}")

    def _builder(self, position: int) -> ComponentBuilder | None:
        component = self.components[position]
        match component:
            case Mixture():
                return self._experts
            case Projections():
                return self._projections
            case VocabularyMatrix():
                return self._ends
        raise NotImplementedError(f"nothing makes weights of a {type(component).__name__}")
