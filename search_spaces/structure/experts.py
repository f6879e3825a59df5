"""Structure of a mixture of experts: its stacks of weights, its router, and its integers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

StackRole = Literal["up", "down", "up_bias", "down_bias"]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One kind of weight of all experts in one tensor, experts along the first axis."""

    path: str
    """Path of the parameter inside the layer, such as ``mlp.experts.gate_up_proj``."""
    role: StackRole
    """``up`` computes an expert's channels (and their gates), ``down`` reads them."""
    channels: NDArray[np.int_]
    """The channel of each feature along `axis`, ``(features,)``; empty if there is no axis."""
    transposed: bool = False
    """Whether an expert's matrix is stored as inputs by outputs."""

    @property
    def axis(self) -> int | None:
        """Axis of the tensor along which the channels lie; None: it has none."""
        if self.role == "down_bias":
            return None
        if self.role == "up_bias":
            return 1
        return 1 if (self.role == "up") is not self.transposed else 2

    def features(self, channels: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return the features along `axis` of some channels, laid out like those of the stack.

        >>> gates_first = np.array([0, 1, 2, 0, 1, 2])
        >>> Stack(path="", role="up", channels=gates_first).features(np.array([2, 0])).tolist()
        [2, 0, 5, 3]
        >>> interleaved = np.array([0, 0, 1, 1, 2, 2])
        >>> Stack(path="", role="up", channels=interleaved).features(np.array([2, 0])).tolist()
        [4, 5, 0, 1]

        Args:
            channels: In the order in which they are to come, ``(kept,)``.
        """
        count = int(self.channels.max()) + 1
        by_channel = np.argsort(self.channels, kind="stable").reshape(count, -1)
        features = by_channel[channels]  # (kept, features of each)
        # a channel's gate is next to it, or all gates come first
        is_interleaved = bool((np.diff(by_channel[0]) == 1).all())
        return features.ravel() if is_interleaved else features.T.ravel()


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts: a router that chooses some of them for each token."""

    router: str
    """Path inside the layer of the module that scores and chooses."""
    holder: str
    """Path inside the layer of the module that owns the stacks; its arguments are hidden states
    ``(tokens, hidden)``, and the chosen experts and their weights ``(tokens, top_k)``."""
    count: int
    """Number of experts in the dense model."""
    channel_count: int
    """Inner channels of each expert."""
    top_k: int
    """Experts that the dense model runs for a token."""
    stacks: tuple[Stack, ...]
    router_rows: tuple[str, ...]
    """Paths inside the layer of the router's parameters and buffers, a row for each expert."""
    count_attributes: tuple[tuple[str, str], ...] = ()
    """Module path inside the layer and name of each integer that must follow the count."""
    top_k_attributes: tuple[tuple[str, str], ...] = ()
    """Module path and name of each integer that sets top-k; empty: the code fixes it."""
    lowest: int = 1
    """Smallest number of units with which the router can still choose `top_k` experts."""

    def stack(self, role: StackRole) -> Stack:
        """Return the stack of a role, which must exist."""
        return next(stack for stack in self.stacks if stack.role == role)
