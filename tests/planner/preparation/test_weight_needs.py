"""What compensated weights take is counted by hand; what does not fit takes a coarser step."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from evaluators.costs.cost_model import CostModel
from planner.preparation.dense_model import DenseModel
from planner.preparation.order_file import load_space, save_order
from planner.preparation.weight_needs import WeightNeeds, cache_bound, fitting_step
from planner.runs.folder import ORDER_FILE
from planner.settings.search import SearchSettings
from search_spaces.models.stored import StoredFormat
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.orders import Orders
from tests.models.families import dense

STRUCTURE = dense("llama")
"""Six layers of hidden size 32: attentions of two KV groups, MLPs of 48 channels."""


class Usage(NamedTuple):
    free: int


def settings(**values: Any) -> SearchSettings:
    return SearchSettings.checked(model="m", data="d", **values)


@pytest.fixture
def model() -> DenseModel:
    stored = StoredFormat(dtype=torch.float32)
    identity = type("Identity", (), {"fingerprint": "f"})
    loaded: Any = type("Loaded", (), {"stored": stored, "identity": identity})
    costs = CostModel(STRUCTURE, stored=stored, context=8)
    return DenseModel(loaded=loaded, structure=STRUCTURE, costs=costs)


def test_all_widths_are_counted(model: DenseModel) -> None:
    needs = WeightNeeds.of(model, settings(mlp_step=16))
    # outputs of one KV group of two, and of 16 and 32 channels of 48
    numbers = 6 * 32 * (32 // 2 + 16 + 32)
    assert needs.disk_bytes == 4 * numbers
    assert needs.statistics_bytes == 4 * 6 * (3 * 32 * 32 + 48 * 48)
    assert needs.memory_bytes == 48 * 48 * (4 + 16) + 3 * 32 * 48 * 8
    assert needs.operations == 6 * sum(4 * 32 * n * n + n**3 for n in (32, 48))


def test_nothing_is_needed_where_only_whole_parts_go(model: DenseModel) -> None:
    needs = WeightNeeds.of(model, settings(space="drops"))
    assert (needs.disk_bytes, needs.statistics_bytes, needs.memory_bytes) == (0, 0, 0)


def test_the_bound_is_half_of_what_is_free_with_what_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free=1000))
    assert cache_bound(settings(), tmp_path) == 500
    held = tmp_path / "levels" / "layers.0.mlp"
    held.mkdir(parents=True)
    (held / "16.safetensors").write_bytes(bytes(200))
    assert cache_bound(settings(), tmp_path) == 600
    assert cache_bound(settings(weight_cache_gigabytes=2.0), tmp_path) == 2 * 10**9


def test_the_step_grows_until_the_weights_fit(
    model: DenseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("planner.preparation.weight_needs.LARGEST_STEP", 4)
    monkeypatch.setattr("planner.preparation.weight_needs.FEWEST_THAT_FIT", 3)
    by_step = {step: WeightNeeds.of(model, settings(mlp_step=step)).disk_bytes for step in (8, 16)}
    usual = WeightNeeds.of(model, settings()).disk_bytes
    assert usual > by_step[8] > by_step[16]
    assert fitting_step(model, settings(), usual) is None
    with caplog.at_level("INFO"):
        assert fitting_step(model, settings(), by_step[8]) == 8
    assert "8 channels apart" in caplog.text
    assert fitting_step(model, settings(), by_step[16] - 1) is None  # none that is worth it fits
    assert fitting_step(model, settings(mlp_step=2), 0) is None  # was asked for


def test_the_step_of_a_run_is_kept_with_its_order(model: DenseModel, tmp_path: Path) -> None:
    components = STRUCTURE.components
    orders = Orders(members=tuple(np.arange(each.unit_count) for each in components))
    prior = SensitivityPrior(
        units=tuple(np.ones(each.unit_count) for each in components),
        options=(np.zeros(1),) * len(components),
    )

    def levels(**values: Any) -> int:
        space = load_space(model, settings(**values), tmp_path, weights_digest="")
        return next(site.top_level for site in space.sites if site.name == "layers.0.mlp")

    save_order(tmp_path / ORDER_FILE, model, orders, prior)
    usual = levels()
    save_order(tmp_path / ORDER_FILE, model, orders, prior, 16)
    assert (usual, levels(), levels(mlp_step=24)) == (12, 3, 2)
