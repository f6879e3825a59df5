"""Owners of features, on functions whose wiring is plain to see."""

import numpy as np
import pytest
import torch
from torch import Tensor

from search_spaces.reading.dependencies import NO_OWNER, SEVERAL_OWNERS, owners


def leaf(features: int) -> Tensor:
    return torch.linspace(0.5, 1.5, 2 * features).reshape(1, 2, features).requires_grad_()


def test_each_feature_has_the_owner_that_reads_it() -> None:
    x = leaf(5)
    # reads feature 0, 0 and 3, 3 and 4; nobody reads 1 and 2
    target = torch.stack([x[..., 0], x[..., 0] * x[..., 3], x[..., 3] + x[..., 4]], dim=-1)
    (found,) = owners(target, np.array([0, 0, 1]), [x])
    assert found.tolist() == [0, NO_OWNER, NO_OWNER, SEVERAL_OWNERS, 1]


def test_leaves_are_distinguished() -> None:
    x, y, unused = leaf(2), leaf(3), leaf(2)
    target = torch.cat([x * 2, y.flip(-1)], dim=-1)
    found = owners(target, np.array([4, 1, 7, 0, 3]), [x, y, unused])
    assert [units.tolist() for units in found] == [[4, 1], [3, 0, 7], [NO_OWNER, NO_OWNER]]


def test_features_that_sum_to_one_do_not_hide() -> None:
    x = leaf(4)
    (found,) = owners(x.softmax(dim=-1), np.zeros(4, dtype=int), [x])
    assert found.tolist() == [0, 0, 0, 0]


def test_tokens_may_mix() -> None:
    x = leaf(3)
    (found,) = owners(x.cumsum(dim=1).flip(1), np.array([2, 0, 1]), [x])
    assert found.tolist() == [2, 0, 1]


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 300])
def test_any_number_of_owners_is_read_bit_by_bit(count: int) -> None:
    order = np.random.default_rng(count).permutation(count)
    x = leaf(count)
    (found,) = owners(x[..., torch.from_numpy(order)] ** 2, np.arange(count), [x])
    assert found.tolist() == np.argsort(order).tolist()


def test_every_pair_of_owners_is_distinguished_from_a_single_one() -> None:
    pairs = [(a, b) for a in range(6) for b in range(a)]
    x = leaf(len(pairs))
    target = torch.stack(
        [
            sum((x[..., i] for i, pair in enumerate(pairs) if owner in pair), x[..., 0] * 0)
            for owner in range(6)
        ],
        dim=-1,
    )
    (found,) = owners(target, np.arange(6), [x])
    assert found.tolist() == [SEVERAL_OWNERS] * len(pairs)
