"""A streamed model gives what the same model gives when it is loaded whole, bit for bit."""

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from evaluators.collectors import collect_statistics
from evaluators.costs.cost_model import CostModel
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from search_spaces.importance import make_unit_importance
from search_spaces.importance.order import rank_units
from search_spaces.models.stored import StoredFormat
from search_spaces.models.streaming import LayerStream
from search_spaces.priors.sensitivity import prior_from_energy
from search_spaces.statistics import StatisticName
from search_spaces.surgery.sort import sort_units_
from tests.models.candidates import random_tokens
from tests.models.streamed import STREAMED_FAMILIES, Opened, opened, save_sharded
from tests.models.tiny import random_counts

WINDOWS = random_tokens(batch=3)
WITHOUT_GRADIENTS = frozenset(get_args(StatisticName)) - {
    "gradient",
    "gradient_second_moment",
    "gate_fisher",
}
WITH_HIDDEN: frozenset[StatisticName] = frozenset({"gram", "angle"})


@pytest.fixture(scope="module", params=STREAMED_FAMILIES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Opened, Opened]:
    """One model whole and streamed; no test may change it."""
    folder: Path = tmp_path_factory.mktemp("streamed")
    save_sharded(request.param, folder)
    whole, streamed = opened(folder, "never"), opened(folder, "always")
    streamed.check_layers_absent()
    return whole, streamed


def test_identity_and_structure_are_the_same(pair: tuple[Opened, Opened]) -> None:
    whole, streamed = pair
    assert not whole.structure.backbone.streamed
    assert streamed.structure.backbone.streamed
    assert streamed.loaded.identity == whole.loaded.identity
    assert streamed.loaded.stored_dtype == whole.loaded.stored_dtype
    for ours, theirs in zip(streamed.structure.layers, whole.structure.layers, strict=True):
        np.testing.assert_equal(asdict(ours), asdict(theirs))


def test_costs_are_the_same(pair: tuple[Opened, Opened]) -> None:
    whole, streamed = (
        CostModel(side.structure, stored=StoredFormat(dtype=torch.float32), context=8).dense()
        for side in pair
    )
    assert streamed == whole


def test_statistics_orders_and_sensitivities_are_the_same(pair: tuple[Opened, Opened]) -> None:
    found = []
    for side in pair:
        statistics = collect_statistics(side.structure, WINDOWS, WITHOUT_GRADIENTS)
        orders = rank_units(side.structure, make_unit_importance("wanda"), statistics)
        # float64 holds them all as they are, and numpy has no bfloat16
        values = [
            {key: (value.dtype, value.double().numpy()) for key, value in layer.items()}
            for layer in statistics
        ]
        found.append((values, orders.members, prior_from_energy(side.structure, statistics).units))
    whole, streamed = found
    np.testing.assert_equal(streamed, whole)
    pair[1].check_layers_absent()


def test_each_layer_is_read_a_few_times_however_much_text_there_is(
    pair: tuple[Opened, Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    structure = pair[1].structure
    reads: list[int] = []
    read = LayerStream._read

    def count(stream: LayerStream, index: int) -> None:
        reads.append(index)
        read(stream, index)

    monkeypatch.setattr(LayerStream, "_read", count)
    collect_statistics(structure, random_tokens(batch=9), WITH_HIDDEN, batch_tokens=24)
    # once for what the layers are handed at each size of a batch, 2 and 1, and once for the pass
    assert sorted(reads) == sorted([*range(len(structure.layers))] * 3)


def test_logits_are_the_same(pair: tuple[Opened, Opened]) -> None:
    whole, streamed = (side.loaded.model(WINDOWS, use_cache=False).logits for side in pair)
    assert torch.equal(streamed, whole)
    pair[1].check_layers_absent()


@pytest.mark.parametrize("name", STREAMED_FAMILIES)
def test_scores_of_sorted_models_are_the_same(name: str, tmp_path: Path) -> None:
    save_sharded(name, tmp_path)
    whole, streamed = opened(tmp_path, "never"), opened(tmp_path, "always")
    rng = np.random.default_rng(0)
    orders = [rng.permutation(component.unit_count) for component in whole.structure.components]
    counts = random_counts(whole.structure, 6, rng)

    def scores(side: Opened) -> dict[int, object]:
        sorted_model = sort_units_(side.structure, orders)
        judge = Evaluator(sorted_model, WINDOWS, Fidelity(batch_tokens=24))
        return {member: score.quality for member, score in judge.score(counts)}

    expected = scores(whole)
    assert len(expected) == 6
    assert scores(streamed) == expected
    streamed.check_layers_absent()


@pytest.mark.parametrize(
    ("stored", "computed"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)],
)
def test_other_dtypes_than_the_stored_one(
    stored: torch.dtype, computed: torch.dtype, tmp_path: Path
) -> None:
    save_sharded("llama", tmp_path, stored)
    whole, streamed = (opened(tmp_path, offload, computed) for offload in ("never", "always"))
    assert streamed.loaded.identity == whole.loaded.identity
    assert streamed.loaded.stored_dtype == stored
    logits = [side.loaded.model(WINDOWS, use_cache=False).logits for side in (whole, streamed)]
    assert logits[1].dtype == computed
    assert torch.equal(logits[0], logits[1])
    streamed.check_layers_absent()
