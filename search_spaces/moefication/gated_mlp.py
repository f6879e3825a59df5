"""The weights of a gated MLP, and the energy that each channel adds to its output."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

_SMALLEST = 1e-20
"""Smallest energy of an output that shares are taken of."""


@dataclass(frozen=True, kw_only=True)
class GatedMlp:
    """``down(activation(gate(x)) · up(x))``, without biases."""

    gate: Tensor
    """``(channels, hidden)``"""
    up: Tensor
    """``(channels, hidden)``"""
    down: Tensor
    """``(hidden, channels)``"""
    activation: Callable[[Tensor], Tensor]

    def shares(self, inputs: Tensor) -> Tensor:
        """Return the energy of each channel's output, as a share of that of the MLP's output.

        The energy of a sum of channels is not the sum of theirs, so the shares of a token do not
        sum to one; but the shares of a few channels are nearly what is lost without them.

        Args:
            inputs: ``(tokens, hidden)``.

        Returns:
            ``(tokens, channels)`` in float32.
        """
        activations = self._activations(inputs)
        output = (activations @ self.down.T).float()
        output_energy = output.square().sum(dim=1, keepdim=True)
        return self._energies(activations).div_(output_energy.clamp(min=_SMALLEST))

    def massive_channels(self, inputs: Tensor, count: int) -> Tensor:
        """Return the channels of the largest energy on any single token, ``(count,)``.

        A few of them make the massive activations of a model, on whose exact values all else
        depends.

        Args:
            inputs: ``(tokens, hidden)``.
            count: Number of channels.
        """
        return self._energies(self._activations(inputs)).amax(dim=0).topk(count).indices

    def _activations(self, inputs: Tensor) -> Tensor:
        """Return the inputs of the last matrix, ``(tokens, channels)``."""
        inputs = inputs.to(self.gate.dtype)
        return self.activation(inputs @ self.gate.T) * (inputs @ self.up.T)

    def _energies(self, activations: Tensor) -> Tensor:
        """Return the energy of each channel's output, ``(tokens, channels)`` in float32."""
        column_energy = self.down.float().square().sum(dim=0)  # (channels,)
        return activations.float().square().mul_(column_energy)


def sum_by_expert(shares: Tensor, experts: Tensor) -> Tensor:
    """Sum over the channels of each expert.

    Args:
        shares: ``(tokens, channels)``.
        experts: Channels of each expert, ``(experts, channels each)``.

    Returns:
        ``(tokens, experts)``
    """
    membership = shares.new_zeros(shares.shape[1], len(experts))
    membership.scatter_(0, experts.T.to(shares.device), 1.0)
    return shares @ membership
