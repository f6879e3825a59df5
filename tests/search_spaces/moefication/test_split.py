"""What becomes of one MLP: who is shared, who is with whom, and what the router says."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from search_spaces.errors import DataError, SettingsError
from search_spaces.moefication.gated_mlp import GatedMlp, sum_by_expert
from search_spaces.moefication.qwen2_moe import UNEVENNESS, scaled_router
from search_spaces.moefication.split import _DAMPING, _FLOOR, Shape, Split, split_mlp

HIDDEN, TOKENS = 16, 400
SHAPE = Shape(experts=4, channels=8, shared=8)


def random_mlp() -> GatedMlp:
    generator = torch.Generator().manual_seed(0)
    gate, up = (torch.randn(40, HIDDEN, generator=generator) for _ in range(2))
    down = torch.randn(HIDDEN, 40, generator=generator)
    return GatedMlp(gate=gate, up=up, down=down, activation=silu)


def random_inputs() -> Tensor:
    return torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def split() -> Split:
    return split_mlp(random_mlp(), random_inputs(), SHAPE, np.random.default_rng(0))


def test_shares_are_energies_by_hand() -> None:
    mlp, inputs = random_mlp(), random_inputs()[:3]
    shares = mlp.shares(inputs)
    for token, row in enumerate(inputs.numpy()):
        gate, up = mlp.gate.numpy() @ row, mlp.up.numpy() @ row
        written = gate / (1 + np.exp(-gate)) * up * mlp.down.numpy()  # (hidden, channels)
        expected = np.square(written).sum(0) / np.square(written.sum(1)).sum()
        assert shares[token].numpy() == pytest.approx(expected, rel=1e-4)


def test_a_token_without_output_has_no_shares() -> None:
    assert random_mlp().shares(torch.zeros(2, HIDDEN)).tolist() == [[0.0] * 40] * 2


def test_channels_are_dealt_out_once(split: Split) -> None:
    assert split.experts.shape == (4, 8)
    everyone = np.concatenate([split.shared, split.experts.ravel()])
    assert np.sort(everyone).tolist() == list(range(40))
    assert (np.diff(split.experts, axis=1) > 0).all()


def test_the_router_is_the_ridge_regression_of_log_energies(split: Split) -> None:
    inputs = random_inputs()
    shares = random_mlp().shares(inputs).double().numpy()
    worth = np.stack([shares[:, members].sum(1) for members in split.experts], axis=1)
    x = inputs.double().numpy()
    gram = x.T @ x
    gram += _DAMPING * np.diag(gram).mean() * np.eye(HIDDEN)
    expected = np.linalg.solve(gram, x.T @ np.log(worth + _FLOOR / 4)).T
    expected -= expected.mean(axis=0)
    assert split.router.numpy() == pytest.approx(expected, abs=1e-4 * np.abs(expected).max())


def test_a_router_finds_the_active_experts_of_a_token() -> None:
    # four kinds of token, and for each of them eight channels that only it opens
    kinds = torch.arange(TOKENS) % 4
    inputs = 4.0 * torch.eye(HIDDEN)[kinds] + 0.1 * random_inputs()
    inputs[:, HIDDEN - 1] = 1.0  # what the up projections and the shared channels read
    generator = torch.Generator().manual_seed(2)
    scrambled = torch.randperm(40, generator=generator)
    opener = torch.arange(40) // 8
    gate = torch.where(opener[:, None] < 4, 3.0 * torch.eye(HIDDEN)[opener], 0.0)
    gate[:, HIDDEN - 1] = torch.where(opener < 4, -4.0, 3.0)
    up = torch.zeros(40, HIDDEN)
    up[:, HIDDEN - 1] = 1.0
    down = torch.randn(HIDDEN, 40, generator=generator)
    mlp = GatedMlp(gate=gate[scrambled], up=up, down=down[:, scrambled] / 10, activation=silu)
    found = split_mlp(mlp, inputs, SHAPE, np.random.default_rng(0))
    whose = opener[scrambled].numpy()
    assert set(whose[found.shared]) == {4}
    owners = [set(whose[members]) for members in found.experts]
    assert sorted(map(tuple, owners)) == [(0,), (1,), (2,), (3,)]
    chosen = (inputs @ found.router.T).argmax(dim=1).numpy()
    assert [owners[expert] for expert in chosen] == [{int(kind)} for kind in kinds]


def test_the_split_keeps_more_than_chance() -> None:
    mlp, inputs = random_mlp(), random_inputs()
    found = split_mlp(mlp, inputs[:300], SHAPE, np.random.default_rng(0))
    worth = sum_by_expert(mlp.shares(inputs[300:]), torch.from_numpy(found.experts))
    best = (inputs[300:] @ found.router.T).argsort(dim=1, descending=True)[:, :2]
    assert float(worth.gather(1, best).sum()) > 1.05 * float(worth.mean(dim=1).sum()) * 2


def test_the_same_seed_gives_the_same_split(split: Split) -> None:
    again = split_mlp(random_mlp(), random_inputs(), SHAPE, np.random.default_rng(0))
    assert np.array_equal(again.experts, split.experts)
    assert torch.equal(again.router, split.router)


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="at least as many tokens of calibration text, got 15"):
        split_mlp(random_mlp(), random_inputs()[:15], SHAPE, np.random.default_rng(0))


def test_inputs_that_are_no_numbers_are_refused() -> None:
    inputs = random_inputs()
    inputs[3, 3] = torch.nan
    with pytest.raises(DataError, match="finite"):
        split_mlp(random_mlp(), inputs, SHAPE, np.random.default_rng(0))


def test_a_scaled_router_is_scaled_by_a_power_of_two(split: Split) -> None:
    inputs = random_inputs()
    scaled = scaled_router(split.router, inputs)
    factor = scaled / split.router
    assert float(factor.max()) == float(factor.min())
    assert float(np.log2(float(factor[0, 0]))).is_integer()
    assert UNEVENNESS / 2 < float((inputs @ scaled.T).abs().max()) <= UNEVENNESS


def test_a_router_of_zeros_is_kept() -> None:
    assert not scaled_router(torch.zeros(4, HIDDEN), random_inputs()).any()


@pytest.mark.parametrize(
    ("width", "experts", "shared", "expected"),
    [
        (1536, 64, None, (16, 512)),
        (1536, 64, 512, (16, 512)),
        (48, 4, None, (8, 16)),
        (11008, 64, None, (112, 3840)),
    ],
)
def test_shapes(width: int, experts: int, shared: int | None, expected: tuple[int, int]) -> None:
    shape = Shape.of(width, experts, shared)
    assert (shape.channels, shape.shared) == expected
    assert shape.experts == experts


@pytest.mark.parametrize("experts", [0, 1, 3, 48])
def test_experts_that_are_no_power_of_two_are_refused(experts: int) -> None:
    with pytest.raises(SettingsError, match=f"power of two.*got {experts}"):
        Shape.of(1536, experts, None)


@pytest.mark.parametrize("shared", [1, 500, 1536, 2000])
def test_what_does_not_share_out_is_refused(shared: int) -> None:
    with pytest.raises(SettingsError, match=f"got {shared}; choose from 512, 1024"):
        Shape.of(1536, 64, shared)
