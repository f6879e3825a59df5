"""Statistics and pruned weights of the tiny models by a road that the planner does not take."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.compensation import make_compensation
from search_spaces.pruned_weights.projection_builder import ProjectionBuilder
from search_spaces.pruned_weights.rewriting import Rewriting
from search_spaces.pruned_weights.types import Choice, PrunedWeights
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import LayerStatistics, MatrixStatistics, StatisticName, Statistics
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens
from tests.models.factory import twin
from tests.models.families import dense

Units = NDArray[np.int_]


class RowMagnitude:
    """Sets the weights of each row to zero whose size times their input's is smallest."""

    statistics: frozenset[StatisticName] = frozenset({"input_second_moment"})

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        return by_row(weight, statistics["input_second_moment"], pattern)


class Halved:
    """A refinement that halves what stays."""

    statistics: frozenset[StatisticName] = frozenset({"input_mean"})

    def refined(
        self,
        sparse: Tensor,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,
    ) -> Tensor:
        assert statistics["input_mean"].shape == (weight.shape[1],)
        return sparse / 2


def by_row(weight: Tensor, moments: Tensor, pattern: SparsityPattern) -> Tensor:
    size = weight.abs() * moments.sqrt()
    zeros = pattern.zeros_each_row(weight.shape[1])
    lowest = size.argsort(dim=1, stable=True)[:, :zeros]
    return weight.scatter(1, lowest, 0.0)


@torch.no_grad()
def measured(structure: ModelStructure, tokens: Tensor) -> tuple[Statistics, ...]:
    """Give means, second moments and Gram matrices of every projection's inputs."""
    seen: dict[tuple[int, str], Tensor] = {}
    hooks = []
    for component in structure.components:
        for projection in component.projections:
            key = (component.layer, projection.path)

            def note(
                _module: nn.Module,
                args: tuple[Tensor],
                _output: Tensor,
                key: tuple[int, str] = key,
            ) -> None:
                seen[key] = args[0].flatten(0, -2)

            layer = structure.backbone.layers[component.layer]
            module = layer.get_submodule(projection.path)
            hooks.append(module.register_forward_hook(note))
    structure.backbone.model(tokens, use_cache=False)
    for hook in hooks:
        hook.remove()
    found: list[dict[tuple[StatisticName, str], Tensor]] = [
        {("tokens", ""): torch.tensor(float(tokens.numel()))} for _ in structure.layers
    ]
    for (index, path), inputs in seen.items():
        found[index]["input_mean", path] = inputs.mean(dim=0)
        found[index]["input_second_moment", path] = inputs.square().mean(dim=0)
        found[index]["gram", path] = inputs.T @ inputs / len(inputs)
    return tuple(found)


def random_orders(structure: ModelStructure) -> list[Units]:
    rng = np.random.default_rng(0)
    return [rng.permutation(component.unit_count) for component in structure.components]


@torch.no_grad()
def set_by_hand_(
    structure: ModelStructure,
    statistics: Sequence[Statistics],
    position: int,
    kept: Units,
    pattern: SparsityPattern,
    method: str,
) -> None:
    """Overwrite the dense weights of one component, in the model's own order.

    Removed units stay, but nothing reads what they give.

    Args:
        method: ``least_squares``, ``bias``, or empty: the kept columns stay as they are.
    """
    component = structure.components[position]
    layer, of_layer = structure.backbone.layers[component.layer], statistics[component.layer]
    for projection in component.projections:
        linear = layer.get_submodule(projection.path)
        found = MatrixStatistics.of(of_layer, projection.path)
        if projection.side == "rows":
            matrix(linear).copy_(_sparse(matrix(linear), found["input_second_moment"], pattern))
        else:
            mask = torch.from_numpy(np.isin(projection.units, kept))
            _set_output_(linear, found, mask, pattern, method)


def _set_output_(
    linear: nn.Module, found: MatrixStatistics, mask: Tensor, pattern: SparsityPattern, method: str
) -> None:
    weight, offset = matrix(linear), bias(linear)
    columns, rest = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
    if not len(columns):
        weight.zero_()
        if offset is not None:
            offset.zero_()
        return
    left = weight[:, columns].clone()
    if len(rest) and method == "least_squares":
        gram = found["gram"].double()
        damping = 0.01 * gram.diagonal().mean() * torch.eye(len(columns))
        inverse = torch.linalg.inv(gram[columns][:, columns] + damping)
        left = (weight.double() @ gram[:, columns] @ inverse).float()
    if len(rest) and method == "bias":
        added = weight[:, rest] @ found["input_mean"][rest]
        added = added if offset is None else added + offset
        linear.bias = nn.Parameter(added, requires_grad=False)
    left = _sparse(left, found["input_second_moment"][columns], pattern)
    weight.zero_()
    weight[:, columns] = left


def _sparse(weight: Tensor, moments: Tensor, pattern: SparsityPattern) -> Tensor:
    return weight.clone() if pattern.is_dense else by_row(weight, moments, pattern)


WIDTHS = [(0, 1, 2), (0, 16, 32, 48)] * 6
"""Counts of the tiny Llama's components that are built together."""


class Counted(WeightBuilder):
    """Notes what it is asked for."""

    asked: list[tuple[int, list[Choice]]]

    def build(
        self,
        position: int,
        choices: Sequence[Choice],
        compensated: PrunedWeights | None = None,
    ) -> Iterator[PrunedWeights]:
        self.asked.append((position, list(choices)))
        return super().build(position, choices, compensated)


@cache
def counted_builder() -> Counted:
    """Give a builder of the tiny Llama's weights; all tests share it."""
    structure = dense("llama")
    orders = random_orders(structure)
    copy = sort_units_(twin(structure), orders)
    text = random_tokens(batch=16, length=16)
    made = Counted(
        ProjectionBuilder(
            copy,
            LayerStatistics.measured(measured(structure, text)),
            compensation=make_compensation("least_squares"),
            rewriting=Rewriting(sparsifier=RowMagnitude()),
        )
    )
    made.asked = []
    return made


def opened(folder: Path, builder: WeightBuilder) -> WeightCache:
    return WeightCache(folder, builder, WIDTHS, digest="a")


def equal(first: PrunedWeights, second: PrunedWeights) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[path].weight, second[path].weight) for path in first
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
