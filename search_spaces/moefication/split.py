"""Channels of a dense MLP as experts, with the router that says which of them a token needs."""

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

ASKER = "splitting an MLP"
ROUNDS = 3
"""Of fitting the router and moving channels; errors fall little from there on."""
_DAMPING = 1.0
"""Of the mean of the Gram matrix's diagonal, which a few large inputs make up."""
_FLOOR = 1e-4
"""Share of an output's energy, over all experts, below which they all count as silent."""
_LOUD_PART = 16
"""One in so many of the shared channels is there because some token makes it very loud."""
_SHARED_PART = 1 / 3
"""Of the channels, those that are shared by default, as nearly as can be."""
_GRAIN = 8
"""Channels of an expert come in multiples of this: torch's grouped products, which transformers
runs experts with, want rows of 16 bytes."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How the channels of one MLP are shared out."""

    experts: int
    channels: int
    """Of each expert."""
    shared: int
    """Channels that run for every token."""

    @classmethod
    def of(cls, width: int, experts: int, shared: int | None) -> Self:
        """Share out the channels of an MLP.

        Args:
            width: Channels of the MLP.
            experts: How many are wanted; a power of two.
            shared: Channels that always run; none: about a third.

        Raises:
            SettingsError: Where the channels cannot be shared out so.
        """
        if experts < 2 or experts & (experts - 1):
            raise SettingsError(
                "`experts` must be a power of two and at least 2, so that no weight is rounded, "
                f"got {experts}; choose another number"
            )
        fitting = range(_GRAIN, -(-width // experts), _GRAIN)  # channels of an expert
        if shared is None and fitting:
            wanted = width * (1 - _SHARED_PART) / experts
            shared = width - experts * min(fitting, key=lambda each: abs(each - wanted))
        channels, rest = divmod(width - (shared or 0), experts)
        if rest or channels not in fitting or shared is None:
            some = ", ".join(str(width - experts * each) for each in reversed(fitting))
            raise SettingsError(
                f"`shared` must leave each of {experts} experts a multiple of {_GRAIN} of the "
                f"{width} channels, as fast kernels want it, got {shared or 'none'}; "
                + (f"choose from {some}" if some else "lower `--experts`")
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
    """Expected log energy of each expert's output by the MLP's input, less the mean of all
    experts', ``(experts, hidden)`` in float32; the largest are to be chosen."""


def split_mlp(
    mlp: GatedMlp,
    inputs: Tensor,
    shape: Shape,
    rng: np.random.Generator,
) -> Split:
    """Split an MLP so that a token needs few of its experts, and a linear router knows which.

    As in MoEfication (Zhang et al., 2022, Findings of ACL) channels are clustered and a router is
    fitted to what each cluster does. What differs is that nothing is trained, and how:

    - An expert's worth to a token is the energy of what its channels write, as a share of the
      output's. The router is the ridge regression of its logarithm on the MLP's input.
    - A few channels that some token makes very loud are shared in any case.
    - At first the other shared channels are those of the highest mean share, and the rest are
      clustered by the part of their amplitude that is linear in the input, for that is
      what a router can tell apart.
    - Then in turns the router is fitted, and all channels move to where most of their energy is
      kept, averaged over all numbers of active experts: a linear assignment with given sizes,
      solved exactly, the shared channels being one cluster of it that every token chooses.

    Args:
        mlp: Of a dense layer.
        inputs: What it reads on calibration text, ``(tokens, hidden)``.
        shape: How many experts, how large.
        rng: Picks the means of the first clusters.

    Raises:
        DataError: Where there are too few tokens, or inputs are not finite.
    """
    if len(inputs) < inputs.shape[1]:
        raise DataError(
            f"{ASKER} with {inputs.shape[1]} inputs needs at least as many tokens of calibration "
            f"text, got {len(inputs)}; raise `--calibration_windows` or `--window_tokens`"
        )
    shares = mlp.shares(inputs)
    # massive activations always run: routed, they would feel that experts are weighed by a softmax
    loud = mlp.loudest(inputs, shape.shared // _LOUD_PART)
    regression = _Regression(inputs.float())
    split = _first_split(shares, loud, regression, shape, rng)
    for _ in range(ROUNDS):
        split = _moved(shares, loud, inputs.float() @ split.router.T, regression, shape)
    return split


class _Regression:
    """Ridge regressions on the same inputs."""

    def __init__(self, inputs: Tensor) -> None:
        self._inputs = inputs
        self.factor = damped_cholesky(inputs.T @ inputs, _DAMPING, ASKER)

    def fitted(self, targets: Tensor) -> Tensor:
        """Give the coefficients ``(hidden, targets)`` in float64, of ``(tokens, targets)``."""
        return torch.cholesky_solve((self._inputs.T @ targets).double(), self.factor)


def fit_router(
    shares: Tensor, experts: NDArray[np.int_], fitted: Callable[[Tensor], Tensor]
) -> Tensor:
    """Fit the logarithm of each expert's share, ``(experts, hidden)``, less the experts' mean.

    The mean is the same for all experts of a token, and so no choice depends on it.

    Args:
        shares: Of each channel, ``(tokens, channels)``.
        experts: Channels of each expert, ``(experts, channels each)``.
        fitted: Gives the coefficients of a linear regression.
    """
    worth = sum_by_expert(shares, torch.from_numpy(experts))
    router = fitted((worth + _FLOOR / len(experts)).log()).T
    return (router - router.mean(dim=0)).float()


def _first_split(
    shares: Tensor, loud: Tensor, regression: _Regression, shape: Shape, rng: np.random.Generator
) -> Split:
    means = shares.mean(dim=0)
    means[loud] = torch.inf
    order = means.argsort(descending=True, stable=True).cpu().numpy()
    routed = np.sort(order[shape.shared :])
    coefficients = regression.fitted(shares[:, torch.from_numpy(routed)].sqrt())
    # distances between these points are those between fitted values over all tokens
    points = (regression.factor.T @ coefficients).T.double().cpu().numpy()
    labels = np.full(shares.shape[1], shape.experts)
    labels[routed] = cluster_evenly(points, shape.experts, rng)
    return _split_by(labels, shares, regression, shape)


def _moved(
    shares: Tensor, loud: Tensor, scores: Tensor, regression: _Regression, shape: Shape
) -> Split:
    """Move channels to where most of their energy is kept.

    An expert that comes as the r-th of E is kept where r or more are active: in
    ``(E - r + 1) / E`` of all numbers of active experts.
    """
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept = 1.0 - ranks.to(shares.dtype) / shape.experts  # (tokens, experts)
    always = shares.sum(dim=0)[:, None]
    gains = torch.cat([shares.T @ kept, always], dim=1)
    gains[loud] = 0.0
    gains[loud, -1] = gains.max()  # more than they are worth elsewhere, and than any other is here
    worth = gains.double().cpu().numpy()
    sizes = np.array([shape.channels] * shape.experts + [shape.shared])
    return _split_by(assign_exactly(worth, sizes), shares, regression, shape)


def _split_by(
    labels: NDArray[np.int_], shares: Tensor, regression: _Regression, shape: Shape
) -> Split:
    """Give the split with these clusters, ``(channels,)``; the last is the shared one."""
    members = np.argsort(labels, kind="stable")
    experts = members[: shape.experts * shape.channels].reshape(shape.experts, -1)
    router = fit_router(shares, experts, regression.fitted)
    return Split(shared=members[experts.size :], experts=experts, router=router)
