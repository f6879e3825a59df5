"""Statistics of mixtures with experts that no token is routed to."""

import copy
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from evaluators.collectors import collect_statistics
from evaluators.collectors.names import OF_EXPERT_REMOVAL, OF_EXPERTS
from search_spaces.importance import ExpertImportanceName, make_expert_importance
from search_spaces.importance.order import rank_units
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from tests.evaluators.collectors.routed_text import LAYER, ROUTED, TOKENS, experts_of
from tests.models.moe_families import mixture
from tests.models.parts import experts_in
from tests.progress import RecordedProgress


@cache
def unrouted_mixture() -> tuple[ModelStructure, Mixture]:
    """Return a model of which one router chooses some experts only, two of them by a bias."""
    structure = copy.deepcopy(mixture("gpt-oss"))
    component = experts_of(structure)
    router: Any = structure.backbone.layers[LAYER].get_submodule(component.router)
    with torch.no_grad():
        router.bias[[1, 6]] = -1000.0
    return structure, component


def unused_experts(found: Statistics) -> list[int]:
    frequency = found["expert_frequency", "mlp.experts"]
    return [expert for expert in range(8) if frequency[expert] == 0]


def test_unrouted_experts_are_reported_and_finite(notices: list[str]) -> None:
    structure = unrouted_mixture()[0]
    wanted = OF_EXPERTS | OF_EXPERT_REMOVAL
    found = collect_statistics(structure, TOKENS, wanted)
    assert len(notices) == 1
    assert "pruned first: " in notices[0]
    unused = unused_experts(found[LAYER])
    assert {1, 6} <= set(unused)
    assert f"{len(unused)} of 8 in layer 2" in notices[0]
    assert notices[0].endswith("give longer or other `--data` if they should count")
    for (name, _), value in found[LAYER].items():
        assert value.isfinite().all(), name
        if name.startswith("expert_") and name != "expert_reconstruction":
            assert not value[unused].any(), name
    collect_statistics(structure, TOKENS, frozenset({"input_mean"}))
    assert len(notices) == 1


@pytest.mark.parametrize("name", get_args(ExpertImportanceName))
def test_every_importance_prunes_unrouted_experts_first(name: ExpertImportanceName) -> None:
    structure, _ = unrouted_mixture()
    routers = {
        layer: torch.zeros(8, 32) for layer, own in enumerate(structure.layers) if experts_in(own)
    }
    importance = make_expert_importance(name, pretrained=routers)
    found = collect_statistics(structure, TOKENS, importance.statistics)
    orders = rank_units(structure, _Alike(), found, importance)
    order = orders[structure.components.index(experts_of(structure))]
    assert sorted(order.tolist()) == list(range(8))
    unused = unused_experts(found[LAYER])
    assert set(order[-len(unused) :].tolist()) == set(unused) >= {1, 6}


class _Alike:
    """Rates all units alike."""

    statistics: frozenset[StatisticName] = frozenset()
    comparable = False

    def importance(self, component: Component, weights: object, statistics: object) -> Tensor:
        return torch.zeros(component.unit_count)


def test_statistics_of_experts_are_found_again_on_disk(tmp_path: Path) -> None:
    structure, _ = unrouted_mixture()
    wanted = ROUTED | OF_EXPERT_REMOVAL
    progress = RecordedProgress()
    first = collect_statistics(structure, TOKENS, wanted, folder=tmp_path)
    again = collect_statistics(
        structure,
        TOKENS,
        wanted,
        folder=tmp_path,
        progress=progress,
    )
    assert progress.counts == []
    for one, other in zip(first, again, strict=True):
        assert set(one) == set(other)
        assert all(torch.equal(one[key], other[key]) for key in one)
