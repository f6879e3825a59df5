"""Mixtures of experts made by hand: their stacks, and what runs them."""

import numpy as np
import torch
from torch import Tensor

from search_spaces.structure.mixture import Mixture, Stack

EXPERTS, CHANNELS, HIDDEN = 6, 5, 4
HOLDER = "mlp.experts"


def mixture(
    *,
    groups: int = 1,
    interleaved: bool = False,
    transposed: bool = False,
    biased: bool = False,
    experts: int = EXPERTS,
) -> Mixture:
    """Give a mixture of gated experts, stored in one of the ways that families do it."""
    one = np.arange(CHANNELS)
    pairs = np.repeat(one, 2) if interleaved else np.tile(one, 2)
    stacks = [
        Stack(path="up", role="up", channels=pairs, transposed=transposed),
        Stack(path="down", role="down", channels=one, transposed=transposed),
    ]
    if biased:
        stacks += [
            Stack(path="up_bias", role="up_bias", channels=pairs),
            Stack(path="down_bias", role="down_bias", channels=np.empty(0, dtype=np.int_)),
        ]
    return Mixture(
        layer=0,
        unit_count=experts // groups,
        module="mlp",
        group_count=groups,
        router="mlp.gate",
        holder=HOLDER,
        channel_count=CHANNELS,
        top_k=2,
        stacks=tuple(stacks),
        router_rows=("mlp.gate.bias", "mlp.gate.weight"),
    )


def random_stacks(experts: Mixture) -> dict[str, Tensor]:
    """Give random weights for the stacks of a mixture and for its router."""
    rng = torch.Generator().manual_seed(0)
    shapes = {"up": (2 * CHANNELS, HIDDEN), "down": (HIDDEN, CHANNELS)}
    flat = {"up_bias": (2 * CHANNELS,), "down_bias": (HIDDEN,)}
    made = {}
    for stack in experts.stacks:
        shape = flat.get(stack.role) or shapes[stack.role][:: -1 if stack.transposed else 1]
        made[stack.path] = torch.randn(experts.member_count, *shape, generator=rng)
    made["mlp.gate.weight"] = torch.randn(experts.member_count, HIDDEN, generator=rng)
    made["mlp.gate.bias"] = torch.randn(experts.member_count, generator=rng)
    return made


def expert_output(
    component: Mixture, stacks: dict[str, Tensor], expert: int, inputs: Tensor
) -> Tensor:
    """Give what a gated expert makes of inputs ``(tokens, hidden)``."""
    up, down = (component.stack(role) for role in ("up", "down"))
    made = inputs @ (stacks["up"][expert] if up.transposed else stacks["up"][expert].T)
    made = made + (stacks["up_bias"][expert] if "up_bias" in stacks else 0)
    interleaved = bool(up.channels[1] == 0)
    gates, rest = (made[:, ::2], made[:, 1::2]) if interleaved else made.chunk(2, dim=1)
    made = torch.nn.functional.silu(gates) * rest
    made = made @ (stacks["down"][expert] if down.transposed else stacks["down"][expert].T)
    return made + (stacks["down_bias"][expert] if "down_bias" in stacks else 0)
