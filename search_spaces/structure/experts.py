"""What the planner knows of a mixture of experts beside its units: stacks, router, integers."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

StackRole = Literal["up", "down", "up_bias", "down_bias"]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One kind of weight of all experts in one tensor, whose first axis runs over the experts."""

    path: str
    """Of the parameter inside the layer, such as ``mlp.experts.gate_up_proj``."""
    role: StackRole
    """What it does: ``up`` gives an expert's channels (and their gates), ``down`` reads them."""
    channels: NDArray[np.int_]
    """The channel of each feature along `axis`, ``(features,)``; empty where there is no axis."""
    transposed: bool = False
    """Whether an expert's matrix is stored as inputs by outputs."""

    @property
    def axis(self) -> int | None:
        """The axis of the whole tensor that runs over the channels; none: it has none."""
        if self.role == "down_bias":
            return None
        if self.role == "up_bias":
            return 1
        return 1 if (self.role == "up") is not self.transposed else 2

    def features(self, channels: NDArray[np.int_]) -> NDArray[np.int_]:
        """Give the features along `axis` of some channels, laid out as the whole stack's are.

        Args:
            channels: In the order in which they are to come, ``(kept,)``.
        """
        count = int(self.channels.max()) + 1
        of_channel = np.argsort(self.channels, kind="stable").reshape(count, -1)
        chosen = of_channel[channels]  # (kept, features of each)
        # a channel's gate lies beside it, or all gates come first
        together = bool((np.diff(of_channel[0]) == 1).all())
        return chosen.ravel() if together else chosen.T.ravel()


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts: a router that chooses some of them for each token."""

    router: str
    """Path inside the layer of the module that scores and chooses."""
    holder: str
    """Path inside the layer of the module that owns the stacks; it is handed hidden states
    ``(tokens, hidden)``, and chosen experts and their weights ``(tokens, top_k)``."""
    count: int
    """Experts of the dense model."""
    channel_count: int
    """Inner channels of each of them."""
    top_k: int
    """Experts that the dense model runs for a token."""
    stacks: tuple[Stack, ...]
    router_rows: tuple[str, ...]
    """Paths inside the layer of the router's parameters and buffers, a row for each expert."""
    count_attributes: tuple[tuple[str, str], ...] = ()
    """Module path inside the layer and name of each integer that must follow the count."""
    top_k_attributes: tuple[tuple[str, str], ...] = ()
    """Likewise of those that say how many run; none: their number is fixed in the code."""
    lowest: int = 1
    """Fewest units with which the router can still choose `top_k` experts."""

    def stack(self, role: StackRole) -> Stack:
        """Give the stack of a role, of which there must be one."""
        return next(stack for stack in self.stacks if stack.role == role)
