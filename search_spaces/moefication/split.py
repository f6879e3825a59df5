"""Splitting the channels of a dense MLP into experts, with a router fitted in closed form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import DataError, SettingsError
from search_spaces.linalg import damped_cholesky
from search_spaces.moefication.clustering import assign_exactly, cluster_evenly
from search_spaces.moefication.gated_mlp import GatedMlp, sum_by_expert

METHOD = "splitting an MLP"
ROUNDS = 3
"""Of fitting the router and moving channels; more of them gain little."""
_DAMPING = 1.0
"""Relative to the mean of the Gram matrix's diagonal, which a few large inputs dominate."""
_FLOOR = 1e-4
"""Share of an output's energy, over all experts, below which they all count as inactive."""
_MASSIVE_PART = 16
"""One in so many of the shared channels is shared for its massive activations."""
_SHARED_PART = 1 / 3
"""Share of the channels that is shared by default, as nearly as possible."""
_GRAIN = 8
"""Divides the channels of an expert: torch's grouped products, which transformers runs experts
with, need rows of 16 bytes."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Numbers of experts, of channels in each, and of shared channels of one MLP."""

    experts: int
    channels: int
    """Channels of each expert."""
    shared: int
    """Channels that run for every token."""

    @classmethod
    def of(cls, width: int, experts: int, shared: int | None) -> Self:
        """Return the shape of the split of an MLP.

        >>> Shape.of(width=96, experts=4, shared=None)
        Shape(experts=4, channels=16, shared=32)

        Args:
            width: Channels of the MLP.
            experts: Number of experts, a power of two.
            shared: Channels that always run; None: about a third.

        Raises:
            SettingsError: If the channels cannot be divided so.
        """
        if experts < 2 or experts & (experts - 1):
            raise SettingsError(
                "`experts` must be a power of two and at least 2, so that no weight is rounded, "
                f"got {experts}; choose another number"
            )
        fitting = range(_GRAIN, -(-width // experts), _GRAIN)  # channels of an expert
        if shared is None and fitting:
            ideal = width * (1 - _SHARED_PART) / experts
            shared = width - experts * min(fitting, key=lambda each: abs(each - ideal))
        channels, rest = divmod(width - (shared or 0), experts)
        if rest or channels not in fitting or shared is None:
            choices = ", ".join(str(width - experts * each) for each in reversed(fitting))
            raise SettingsError(
                f"`shared` must leave each of {experts} experts a multiple of {_GRAIN} of the "
                f"{width} channels, as fast kernels want it, got {shared or 'none'}; "
                + (f"choose from {choices}" if choices else "lower `--experts`")
            )
        return cls(experts=experts, channels=channels, shared=shared)


@dataclass(frozen=True, kw_only=True)
class Split:
    """The channels of one MLP as experts, and their router."""

    shared: NDArray[np.int_]
    """Channels that run for every token, ascending."""
    experts: NDArray[np.int_]
    """Channels of each expert, ascending, ``(experts, channels each)``."""
    router: Tensor
    """Predicts the log energy of each expert's output from the MLP's input, less the mean over all
    experts, ``(experts, hidden)`` in float32; experts with the largest logits are to be chosen."""


def split_mlp(
    mlp: GatedMlp,
    inputs: Tensor,
    shape: Shape,
    rng: np.random.Generator,
) -> Split:
    """Split an MLP so that a token needs few of its experts, and a linear router finds them.

    As in MoEfication (Zhang et al., 2022, Findings of ACL) channels are clustered and a router is
    fitted to the activity of each cluster. Unlike there, nothing is trained:

    - An expert's importance to a token is the energy of its channels' output, as a share of that
      of the MLP's output. The router is the ridge regression of its logarithm on the MLP's input.
    - A few channels with massive activations on some token are always shared.
    - Initially the other shared channels are those of the highest mean share, and the rest are
      clustered by the part of their amplitude that is linear in the input, which is the part that
      a linear router can predict.
    - Then the router is fitted and the channels are moved, in turns: each channel goes where most
      of its energy is kept, averaged over all numbers of active experts. This is a linear
      assignment with given cluster sizes, solved exactly, with the shared channels as one more
      cluster that every token chooses.

    Args:
        mlp: Of a dense layer.
        inputs: Its inputs on calibration text, ``(tokens, hidden)``.
        shape: Of the split.
        rng: Draws the initial means of the clusters.

    Raises:
        DataError: If there are too few tokens, or inputs are not finite.
    """
    if len(inputs) < inputs.shape[1]:
        raise DataError(
            f"{METHOD} with {inputs.shape[1]} inputs needs at least as many tokens of calibration "
            f"text, got {len(inputs)}; raise `--calibration_windows` or `--window_tokens`"
        )
    shares = mlp.shares(inputs)
    # massive activations are shared: routed, they would be exposed to uneven routing weights
    massive = mlp.massive_channels(inputs, shape.shared // _MASSIVE_PART)
    regression = _Regression(inputs.float())
    split = _first_split(shares, massive, regression, shape, rng)
    for _ in range(ROUNDS):
        split = _reassigned(shares, massive, inputs.float() @ split.router.T, regression, shape)
    return split


class _Regression:
    """Ridge regressions on the same inputs."""

    def __init__(self, inputs: Tensor) -> None:
        self._inputs = inputs
        self.factor = damped_cholesky(inputs.T @ inputs, _DAMPING, METHOD)

    def fitted(self, targets: Tensor) -> Tensor:
        """Return the coefficients ``(hidden, targets)`` in float64, for ``(tokens, targets)``."""
        return torch.cholesky_solve((self._inputs.T @ targets).double(), self.factor)


def fit_router(
    shares: Tensor, experts: NDArray[np.int_], fitted: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return a router that predicts the log share of each expert, ``(experts, hidden)``.

    The mean over the experts is subtracted; it is the same for all experts of a token, and so no
    choice depends on it.

    Args:
        shares: Of each channel, ``(tokens, channels)``.
        experts: Channels of each expert, ``(experts, channels each)``.
        fitted: Returns the coefficients of a linear regression.
    """
    expert_shares = sum_by_expert(shares, torch.from_numpy(experts))
    router = fitted((expert_shares + _FLOOR / len(experts)).log()).T
    return (router - router.mean(dim=0)).float()


def _first_split(
    shares: Tensor,
    massive: Tensor,
    regression: _Regression,
    shape: Shape,
    rng: np.random.Generator,
) -> Split:
    means = shares.mean(dim=0)
    means[massive] = torch.inf
    order = means.argsort(descending=True, stable=True).cpu().numpy()
    routed = np.sort(order[shape.shared :])
    coefficients = regression.fitted(shares[:, torch.from_numpy(routed)].sqrt())
    # distances of these points are those of the fitted values over all tokens
    points = (regression.factor.T @ coefficients).T.double().cpu().numpy()
    labels = np.full(shares.shape[1], shape.experts)
    labels[routed] = cluster_evenly(points, shape.experts, rng)
    return _split_by(labels, shares, regression, shape)


def _reassigned(
    shares: Tensor, massive: Tensor, scores: Tensor, regression: _Regression, shape: Shape
) -> Split:
    """Return the split with channels moved to where most of their energy is kept.

    The expert with the r-th largest logit of E runs if r or more are active: for
    ``(E - r + 1) / E`` of all numbers of active experts.
    """
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    running = 1.0 - ranks.to(shares.dtype) / shape.experts  # (tokens, experts)
    shared_gains = shares.sum(dim=0)[:, None]
    gains = torch.cat([shares.T @ running, shared_gains], dim=1)
    gains[massive] = 0.0
    gains[massive, -1] = gains.max()  # so that the shared cluster gets them
    gains_by_cluster = gains.double().cpu().numpy()
    sizes = np.array([shape.channels] * shape.experts + [shape.shared])
    return _split_by(assign_exactly(gains_by_cluster, sizes), shares, regression, shape)


def _split_by(
    labels: NDArray[np.int_], shares: Tensor, regression: _Regression, shape: Shape
) -> Split:
    """Return the split with these clusters, ``(channels,)``; the last one is shared."""
    members = np.argsort(labels, kind="stable")
    experts = members[: shape.experts * shape.channels].reshape(shape.experts, -1)
    router = fit_router(shares, experts, regression.fitted)
    return Split(shared=members[experts.size :], experts=experts, router=router)
