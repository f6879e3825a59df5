"""The embedding and the head: matrices with a row for each token, before and after the layers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.backbone import Backbone
from search_spaces.structure.components import (
    Component,
    StatisticPlace,
    UnitWeight,
)


@dataclass(frozen=True, kw_only=True)
class VocabularyMatrix(Component):
    """The embedding, or the head where it has weights of its own: kept whole, in some format.

    Its paths are those inside the model, for it is in no layer.
    """

    kind: Literal["embedding", "head"]
    unit_count: int = 1
    reads_out: bool
    """Whether logits are computed with it: by a head, and by an embedding that is tied to one."""

    @property
    def name(self) -> str:
        return self.kind

    @property
    def is_droppable(self) -> bool:
        return False

    @property
    def unit_choice(self) -> None:
        return None

    @property
    def paths(self) -> tuple[str, ...]:
        return (self.module,)

    @property
    def reader(self) -> str:
        return self.module

    def weights(self, owner: nn.Module) -> Mapping[str, Tensor]:
        return {self.module: _weight(owner.get_submodule(self.module))}

    def unit_weights(self, owner: nn.Module) -> Sequence[UnitWeight]:
        tensor = self.weights(owner)[self.module]
        return [UnitWeight(path=self.module, tensor=tensor, role="matrix")]

    # nothing of it is pruned, so that the rest of what a component says is empty

    def statistic_paths(self, place: StatisticPlace) -> tuple[str, ...]:  # noqa: ARG002
        return ()

    @property
    def energy_statistic(self) -> tuple[StatisticName, str]:
        return "input_second_moment", self.module

    def output_energy(
        self,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,  # noqa: ARG002
    ) -> Tensor:
        return torch.ones(1, 1)

    def matrix_inputs(
        self,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,  # noqa: ARG002
    ) -> Iterator[tuple[Tensor, Tensor]]:
        yield from ()

    @property
    def gated_path(self) -> str:
        return self.module

    def gated(self, args: tuple[Any, ...], gate: Tensor) -> tuple[Any, ...]:  # noqa: ARG002
        return args


def vocabulary_matrices(backbone: Backbone) -> tuple[VocabularyMatrix, ...]:
    """Return the embedding of a model, and its head if that has weights of its own."""
    model: Any = backbone.model
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and _weight(head) is _weight(embedding)
    count = len(backbone.layers)
    paths = {id(module): path for path, module in model.named_modules()}
    found = [
        VocabularyMatrix(
            kind="embedding", layer=count, module=paths[id(embedding)], reads_out=is_tied
        )
    ]
    if head is not None and not is_tied:
        path = paths[id(head)]
        found.append(VocabularyMatrix(kind="head", layer=count, module=path, reads_out=True))
    return tuple(found)


def _weight(module: nn.Module) -> Tensor:
    """Return the matrix of an embedding or a head, ``(tokens, hidden)``."""
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight
