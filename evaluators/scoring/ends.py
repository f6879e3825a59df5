"""The embedding and the head of candidates, each in the number format that it chose."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.space.configuration import Configurations
from search_spaces.structure.backbone import Backbone, LayerInputs
from search_spaces.structure.head import LinearHead
from search_spaces.structure.model import ModelStructure
from search_spaces.structure.vocabulary_matrix import VocabularyMatrix
from search_spaces.surgery.layer_builder import LayerBuilder

TILE = 2048
"""Tokens of the vocabulary whose logits are computed at once: their rows stay in the cache."""


Reading = Callable[[Tensor], Tensor]
"""Returns the logits ``(..., vocabulary)`` of final hidden states ``(..., hidden)``."""


@dataclass(frozen=True)
class Head:
    """Reads logits out of final hidden states: all of them, or those of some tokens."""

    whole: Reading
    """As the model's own forward computes them."""
    formula: LinearHead | None = None
    """Of the dense model; None: it has none that is known."""
    own: Callable[[], Tensor | None] = lambda: None
    """Returns the matrix that is in the place of the dense one; None: that is."""

    def __call__(self, final: Tensor) -> Tensor:
        """Return the logits ``(..., vocabulary)`` of final hidden states ``(..., hidden)``."""
        return self.whole(final)

    @classmethod
    def of(cls, backbone: Backbone) -> Self:
        """Return the head of the dense model."""
        return cls(backbone.logits, backbone.linear_head)

    @property
    def is_own(self) -> bool:
        """Whether its matrix is not the dense model's."""
        return self.own() is not None

    @property
    def is_exact(self) -> bool:
        """Whether logits are a product that nothing rounds to 16 bits."""
        return self.formula is not None and self.formula.is_exact

    @property
    def parts(self) -> list[slice]:
        """Those of the vocabulary that `logits` is asked for at once."""
        if self.formula is None:
            return [slice(0, None)]
        return [slice(first, first + TILE) for first in range(0, len(self.formula.weight), TILE)]

    def logits(self, hidden: Tensor, part: slice) -> Tensor:
        """Return the logits of a part of the vocabulary.

        Args:
            hidden: Final hidden states ``(rows, hidden)``.
            part: One of `parts`.

        Returns:
            ``(rows, part)`` in float32, in memory of their own.
        """
        linear = self.linear
        if linear is None:
            return self.whole(hidden).float()[:, part]
        return linear.logits(hidden, part)

    @property
    def linear(self) -> LinearHead | None:
        """Its formula with the matrix that it has; None: it has none that is known."""
        if self.formula is None or (weight := self.own()) is None:
            return self.formula
        return replace(self.formula, weight=weight)


@dataclass(frozen=True, kw_only=True)
class OwnEnds:
    """What one candidate does before its first layer and after its last."""

    embed: Callable[[Tensor], Tensor]
    """Returns the hidden states ``(batch, tokens, hidden)`` of token ids ``(batch, tokens)``."""
    head: Head


class Ends:
    """What candidates do before their first layer and after their last.

    A tied embedding is read out with, too. Where neither end is among the components of a model,
    all candidates embed and read out as the dense model does.

    Args:
        structure: The model.
        layer_builder: Holds the weights of both in their formats.
    """

    def __init__(self, structure: ModelStructure, layer_builder: LayerBuilder) -> None:
        self._structure = structure
        self._layer_builder = layer_builder
        first = len(structure.components) - len(structure.ends)
        self.positions = range(first, first + len(structure.ends))
        """Among all components."""
        by_kind = {end.kind: position for position, end in self._numbered()}
        self.embedding = by_kind.get("embedding")
        """Position of the embedding; None: it has no formats to choose from."""
        self.head = next((position for position, end in self._numbered() if end.reads_out), None)
        """Position of what is read out with; None likewise."""
        self._held: dict[int, tuple[int, nn.Parameter | None]] = {}

    def choices(self, position: int | None, configurations: Configurations) -> NDArray[np.int_]:
        """Return what candidates ``(candidates, components)`` chose at an end, ``(candidates,)``.

        Args:
            position: `embedding` or `head`; where it is none, they have no choice.
            configurations: Of the candidates.
        """
        if position is None:
            return np.zeros(len(configurations), dtype=np.int_)
        return np.asarray(configurations[:, position])

    def embedded(self, inputs: LayerInputs, choice: int) -> Tensor:
        """Return the hidden states that enter the first layer, ``(batch, tokens, hidden)``.

        Args:
            inputs: Of the dense model, on the same tokens.
            choice: As `choices` returns it for `embedding`.
        """
        weight = self._weight(self.embedding, choice)
        if weight is None:
            return inputs.hidden
        return self._holding(self.embedding, weight).embed(inputs.tokens)

    def reading(self, choice: int) -> Head:
        """Return the head of candidates with a choice, as `choices` returns it for `head`."""
        backbone = self._structure.backbone

        def own() -> nn.Parameter | None:
            # not before it is used: another may have been read out with since
            return self._weight(self.head, choice)

        def whole(final: Tensor) -> Tensor:
            weight = own()
            if weight is None:
                return backbone.logits(final)
            return self._holding(self.head, weight).logits(final)

        return Head(whole, backbone.linear_head, own)

    def head_of(self, configurations: NDArray[np.int_]) -> Head:
        """Return the head of one candidate ``(components,)``."""
        (choice,) = self.choices(self.head, configurations[None])
        return self.reading(int(choice))

    def of(self, configurations: NDArray[np.int_]) -> OwnEnds:
        """Return what one candidate ``(components,)`` does."""

        def embed(tokens: Tensor) -> Tensor:
            return self.backbone_of(configurations).embed(tokens)

        return OwnEnds(embed=embed, head=self.head_of(configurations))

    def backbone_of(self, configurations: NDArray[np.int_]) -> Backbone:
        """Return the model with both ends as one candidate ``(components,)`` has them."""
        backbone = self._structure.backbone
        for position in self.positions:
            weight = self._weight(position, int(configurations[position]))
            if weight is not None:
                backbone = backbone.holding(self._dense(position), weight)
        return backbone

    def _weight(self, position: int | None, choice: int) -> nn.Parameter | None:
        """Return the matrix of an end, the last one used being held; None: the dense one."""
        if position is None:
            return None
        if position not in self._held or self._held[position][0] != choice:
            self._held.pop(position, None)  # one is in memory at a time: they are large
            self._held[position] = choice, self._made(position, choice)
        return self._held[position][1]

    @torch.inference_mode(mode=False)  # gradients may be taken through it later
    @torch.no_grad()
    def _made(self, position: int, choice: int) -> nn.Parameter | None:
        made = self._layer_builder.weights(position, choice)
        path = self._structure.components[position].module
        if path not in made:
            return None
        model = self._structure.backbone.model
        weight = made[path].weight.to(model.device, self._dense(position).dtype)
        return nn.Parameter(weight, requires_grad=False)

    def _holding(self, position: int | None, weight: nn.Parameter) -> Backbone:
        """Return the model with a matrix in the place of an end's, wherever it holds that."""
        assert position is not None, "there are weights of it"
        return self._structure.backbone.holding(self._dense(position), weight)

    def _dense(self, position: int) -> nn.Parameter:
        path = self._structure.components[position].module
        return self._structure.backbone.model.get_parameter(f"{path}.weight")

    def _numbered(self) -> Iterator[tuple[int, VocabularyMatrix]]:
        return zip(self.positions, self._structure.ends, strict=True)
