"""A gated MLP as its weights, and what each of its channels adds to its output."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

_SMALLEST = 1e-20
"""Energy of an output that is all but zero."""


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
        """Give the energy of what each channel writes, as a share of that of the output.

        The energy of a sum of channels is not the sum of theirs, so the shares of a token do not
        sum to one; but those of a few channels are nearly what is lost where they do not run.

        Args:
            inputs: ``(tokens, hidden)``.

        Returns:
            ``(tokens, channels)`` in float32.
        """
        written = self._written(inputs)
        whole = (written @ self.down.T).float().square().sum(dim=1, keepdim=True)
        return self._energies(written).div_(whole.clamp(min=_SMALLEST))

    def loudest(self, inputs: Tensor, count: int) -> Tensor:
        """Give the channels that write most into some token's hidden states, ``(count,)``.

        A few make the massive activations of a model: all else hangs on their exact values.

        Args:
            inputs: ``(tokens, hidden)``.
            count: How many.
        """
        return self._energies(self._written(inputs)).amax(dim=0).topk(count).indices

    def _written(self, inputs: Tensor) -> Tensor:
        """Give what the last matrix reads, ``(tokens, channels)``."""
        read = inputs.to(self.gate.dtype)
        return self.activation(read @ self.gate.T) * (read @ self.up.T)

    def _energies(self, written: Tensor) -> Tensor:
        """Give the energy of what each channel writes, ``(tokens, channels)`` in float32."""
        lengths = self.down.float().square().sum(dim=0)  # (channels,)
        return written.float().square().mul_(lengths)


def sum_by_expert(shares: Tensor, experts: Tensor) -> Tensor:
    """Add up the channels of each expert.

    Args:
        shares: ``(tokens, channels)``.
        experts: Channels of each expert, ``(experts, channels each)``.

    Returns:
        ``(tokens, experts)``
    """
    member = shares.new_zeros(shares.shape[1], len(experts))
    member.scatter_(0, experts.T.to(shares.device), 1.0)
    return shares @ member
