"""Components that are linear layers: attentions, MLPs and shared experts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import (
    Component,
    StatisticPlace,
    UnitChoice,
    UnitWeight,
)
from search_spaces.structure.linear import bias, matrix


@dataclass(frozen=True, kw_only=True)
class Projections(Component):
    """An attention, an MLP or a shared expert: linear layers whose features belong to units."""

    @property
    def mixes_tokens(self) -> bool:
        return self.kind == "attention"

    @property
    def unit_choice(self) -> UnitChoice:
        return "heads" if self.mixes_tokens else "channels"

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(projection.path for projection in self.projections)

    @property
    def reader(self) -> str:
        return self.projections[0].path

    def weights(self, owner: nn.Module) -> Mapping[str, Tensor]:
        return {path: matrix(owner.get_submodule(path)) for path in self.paths}

    def unit_weights(self, owner: nn.Module) -> Sequence[UnitWeight]:
        weights = []
        for projection in self.projections:
            linear = owner.get_submodule(projection.path)
            path, side = projection.path, projection.side
            weights.append(UnitWeight(path=path, tensor=matrix(linear), role="matrix", side=side))
            offset = bias(linear)
            if side == "rows" and offset is not None:
                weights.append(UnitWeight(path=path, tensor=offset, role="bias", side=side))
        return weights

    def statistic_paths(self, place: StatisticPlace) -> tuple[str, ...]:
        return {"matrices": self.paths, "gates": self.paths[-1:]}.get(place, ())

    @property
    def energy_statistic(self) -> tuple[StatisticName, str]:
        return "input_second_moment", self.projections[-1].path

    def output_energy(self, weights: Mapping[str, Tensor], statistics: Statistics) -> Tensor:
        output = self.projections[-1]
        weight = weights[output.path]
        energy = statistics[self.energy_statistic].to(weight)  # ‖X_j‖² / tokens
        return output.summed(weight.square().sum(dim=0) * energy)[:, None]

    def matrix_inputs(
        self, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for path in self.paths:
            yield weights[path][None], statistics["input_second_moment", path][None]

    @property
    def gated_path(self) -> str:
        return self.projections[-1].path

    def gated(self, args: tuple[Any, ...], gate: Tensor) -> tuple[Any, ...]:
        units = torch.from_numpy(self.projections[-1].units).to(gate.device)
        return (args[0] * gate[units], *args[1:])
