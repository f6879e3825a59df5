"""Merging experts: known groups, known means, and duplicates that give the dense expert back."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.statistics import MatrixStatistics
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import Mixture
from tests.models.experts_by_hand import (
    CHANNELS,
    EXPERTS,
    HIDDEN,
    expert_output,
    mixture,
    random_stacks,
)

LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"interleaved": True},
    {"transposed": True},
    {"biased": True},
    {"interleaved": True, "transposed": True, "biased": True},
)


def measured(frequency: list[float], similarity: dict[tuple[int, int], float]) -> MatrixStatistics:
    """Return statistics of experts of which some pairs are routed alike."""
    gram = torch.eye(len(frequency))
    for (one, other), value in similarity.items():
        gram[one, other] = gram[other, one] = value
    scale = torch.arange(1.0, len(frequency) + 1)  # the size of logits does not count
    return MatrixStatistics(
        tokens=100,
        values={
            "expert_frequency": torch.tensor(frequency),
            "routing_gram": gram * scale[:, None] * scale,
        },
    )


def merged(
    component: Component, stacks: dict[str, Tensor], count: int, statistics: MatrixStatistics
) -> dict[str, Tensor]:
    return dict(next(iter(ExpertMerging().merged(component, stacks, [count], statistics))))


def permuted(component: Component, stacks: dict[str, Tensor], source: int, place: int) -> None:
    """Overwrite an expert by another whose channels are in another order."""
    assert isinstance(component, Mixture)
    order = np.random.default_rng(0).permutation(CHANNELS)
    assert (order != np.arange(CHANNELS)).any()
    for stack in component.stacks:
        weights = stacks[stack.path][source].clone()
        if stack.axis is not None:
            by_channel = [np.flatnonzero(stack.channels == c) for c in range(CHANNELS)]
            moved = np.empty(stack.channels.size, dtype=np.int_)
            for channel, features in enumerate(by_channel):
                moved[features] = by_channel[order[channel]]
            weights = weights.index_select(stack.axis - 1, torch.from_numpy(moved))
        stacks[stack.path][place] = weights


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_duplicate_with_permuted_channels_gives_the_expert_back(layout: dict[str, Any]) -> None:
    component = mixture(**layout)
    stacks = random_stacks(component)
    permuted(component, stacks, source=1, place=5)
    inputs = torch.randn(9, HIDDEN, generator=torch.Generator().manual_seed(2))
    ours, theirs = (expert_output(component, stacks, expert, inputs) for expert in (1, 5))
    torch.testing.assert_close(ours, theirs)  # the same expert indeed
    assert not torch.equal(stacks["up"][1], stacks["up"][5])
    found = merged(component, stacks, 5, measured([0.1, 0.2, 0.3, 0.4, 0.5, 0.7], {(1, 5): 0.9}))
    assert isinstance(component, Mixture)
    for stack in component.stacks:
        # a mean of two equal numbers, rounded once
        torch.testing.assert_close(found[stack.path], stacks[stack.path][:5], rtol=1e-6, atol=0)


def test_weights_are_means_by_how_often_experts_are_chosen() -> None:
    component = mixture(experts=3)
    stacks = {path: value[:3] for path, value in random_stacks(mixture()).items()}
    for path in ("up", "down"):  # so alike that no channel moves
        stacks[path][2] = stacks[path][0] * 2
    found = merged(component, stacks, 2, measured([0.75, 0.5, 0.25], {(0, 2): 0.5, (1, 2): 0.4}))
    for path in ("up", "down"):
        torch.testing.assert_close(found[path][0], stacks[path][0] * 1.25)
        assert torch.equal(found[path][1], stacks[path][1])


def test_experts_are_merged_into_those_with_the_most_similar_routing() -> None:
    component = mixture()
    stacks = random_stacks(component)
    statistics = measured([0.5] * 6, {(3, 1): 0.2, (3, 0): 0.1, (4, 1): 0.6, (5, 2): -0.1})
    found = merged(component, stacks, 3, statistics)
    # 3 and 4 join 1; 5 is unlike 2 and joins the first of those to which it is nothing
    assert torch.equal(found["down"][2], stacks["down"][2])
    inner = stacks["up"].sum(dim=(1, 2))
    assert found["up"][1].sum() == pytest.approx(float(inner[[1, 3, 4]].mean()), rel=1e-4)
    assert found["up"][0].sum() == pytest.approx(float(inner[[0, 5]].mean()), rel=1e-4)


def test_channels_are_matched_by_all_their_weights() -> None:
    component = mixture(biased=True)
    stacks = random_stacks(component)
    found = merged(component, stacks, 5, measured([0.5] * 6, {(0, 5): 0.9}))
    kept = {path: value.clone() for path, value in stacks.items()}
    gaps = []
    for order in [np.random.default_rng(seed).permutation(CHANNELS) for seed in range(200)]:
        both = np.concatenate([order, order + CHANNELS])
        gap = (kept["up"][0] - kept["up"][5][both]).square().sum()
        gap += (kept["up_bias"][0] - kept["up_bias"][5][both]).square().sum()
        gaps.append(float(gap + (kept["down"][0] - kept["down"][5][:, order]).square().sum()))
    names = ("up", "up_bias", "down")
    chosen = sum(float((2 * (found[p][0] - kept[p][0])).square().sum()) for p in names)
    assert chosen <= min(gaps) * (1 + 1e-5)


def test_an_expert_that_is_never_chosen_weighs_nothing() -> None:
    component = mixture()
    stacks = random_stacks(component)
    found = merged(component, stacks, 4, measured([0.5, 0.5, 0.5, 0.5, 0.0, 0.0], {}))
    for path in ("up", "down"):
        assert torch.equal(found[path], stacks[path][:4])


def test_a_group_that_is_never_chosen_leaves_the_kept_expert_alone() -> None:
    component = mixture()
    stacks = random_stacks(component)
    found = merged(component, stacks, 1, measured([0.0] * 6, {}))
    for path in ("up", "down"):
        assert torch.equal(found[path], stacks[path][:1])
        assert found[path].isfinite().all()


def test_a_router_without_logits_divides_nothing_by_zero() -> None:
    component = mixture()
    stacks = random_stacks(component)
    values = dict(measured([0.5] * 6, {}).values) | {"routing_gram": torch.zeros(6, 6)}
    found = merged(component, stacks, 2, MatrixStatistics(tokens=1, values=values))
    assert found["up"].isfinite().all()


def test_counts_are_made_one_after_another_as_each_alone() -> None:
    component = mixture(biased=True)
    stacks = random_stacks(component)
    statistics = measured([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], {(5, 1): 0.3, (4, 0): 0.2, (4, 3): 0.5})
    together = list(ExpertMerging().merged(component, stacks, [1, 3, 6], statistics))
    for count, found in zip([1, 3, 6], together, strict=True):
        alone = merged(component, stacks, count, statistics)
        for path, value in found.items():
            assert value.shape == (count, *stacks[path].shape[1:])
            assert torch.equal(value, alone[path])
    assert torch.equal(together[-1]["up"], stacks["up"])


def test_each_group_of_the_router_keeps_its_first_experts() -> None:
    component = mixture(groups=2)
    stacks = random_stacks(component)
    found = merged(component, stacks, 2, measured([1, 1, 0, 1, 1, 0], {(2, 4): 0.5}))
    for path in ("up", "down"):
        assert torch.equal(found[path], stacks[path][[0, 1, 3, 4]])


def test_statistics_are_sorted_as_the_stacks_are() -> None:
    statistics = measured([0.1, 0.2, 0.3], {(0, 2): 0.5})
    order = np.array([2, 0, 1])
    found = statistics.picked(experts=order)
    assert found["expert_frequency"].tolist() == pytest.approx([0.3, 0.1, 0.2])
    gram = statistics["routing_gram"]
    for row, one in enumerate(order):
        for column, other in enumerate(order):
            assert found["routing_gram"][row, column] == gram[one, other]


def test_the_stacks_stay_as_they_are() -> None:
    component = mixture()
    stacks = random_stacks(component)
    before = {path: value.clone() for path, value in stacks.items()}
    merged(component, stacks, 2, measured([0.5] * EXPERTS, {}))
    assert all(torch.equal(stacks[path], value) for path, value in before.items())


def test_similar_channels_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    component = mixture()
    stacks = random_stacks(component)
    statistics = measured([0.5] * 6, {})
    merging = ExpertMerging()
    (first,) = merging.merged(component, stacks, [2], statistics)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("known already")

    monkeypatch.setattr(
        "search_spaces.pruned_weights.expert_merging.linear_sum_assignment", refuse
    )
    (again,) = merging.merged(component, stacks, [2], statistics)
    assert all(torch.equal(first[path], again[path]) for path in first)
    with pytest.raises(AssertionError, match="known already"):
        list(merging.merged(dataclasses.replace(component, layer=1), stacks, [2], statistics))
