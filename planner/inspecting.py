"""What is in a model, what can be cut, and what it costs."""

import math

import numpy as np
from numpy.typing import NDArray

from planner.budget import format_amount
from planner.listener import Listener
from planner.report import aligned
from planner.settings import SearchSettings
from planner.workbench import open_model
from search_spaces.forms import unit_counts
from search_spaces.laying_out import build_space
from search_spaces.structure.sub_block import SubBlock


def inspect_model(settings: SearchSettings, listener: Listener) -> str:
    """Describe a model for a terminal.

    Raises:
        ModelError: Where it cannot be loaded or read.
    """
    dense = open_model(settings, listener)
    structure, costs = dense.structure, dense.costs
    blocks = structure.sub_blocks
    orders = [np.arange(block.unit_count) for block in blocks]
    identity = dense.loaded.identity
    space = build_space(
        identity,
        blocks,
        orders,
        choices=settings.choices,
        mlp_step=settings.mlp_step,
        patterns=settings.patterns,
    )
    widths = unit_counts(blocks)
    without = {}
    for offset, kind in enumerate(("attention", "mlp")):
        bare = widths.copy()
        bare[offset::2] = 0
        without[kind] = costs.costs(bare[None])
    smallest = costs.costs(space.forms(space.smallest()[None]))
    rows = [["", "", "dense", "in attention", "in MLPs", "smallest plan"]]
    for name, total in costs.dense().items():
        parts = [f"{1 - float(without[kind][name][0]) / total:.0%}" for kind in without]
        least = float(smallest[name][0])
        least_text = f"{format_amount(name, least)} {least / total:.2f}x"
        rows.append([name, "", format_amount(name, total), *parts, least_text])
    plans = sum(math.log10(site.top_level + 1) for site in space.sites)
    stored = str(dense.loaded.stored_dtype).removeprefix("torch.")
    return "\n".join(
        [
            f"{settings.model}: {identity.architecture}, {stored}, fingerprint "
            f"{identity.fingerprint}",
            f"{len(structure.layers)} layers: {_widths(blocks[0::2], 'KV groups')} in attention, "
            f"{_widths(blocks[1::2], 'channels')} in the MLP",
            f"{len(space.sites)} sites with {_level_counts(space.top_levels)} levels: about "
            f"10^{plans:.0f} plans",
            "",
            aligned(rows),
            "",
            f"macs for a token that attends to {settings.window_tokens} tokens",
        ]
    )


def _widths(blocks: tuple[SubBlock, ...], unit: str) -> str:
    counts = sorted({block.unit_count for block in blocks})
    return f"{' or '.join(map(str, counts))} {unit}"


def _level_counts(top_levels: NDArray[np.int_]) -> str:
    return " or ".join(str(count) for count in sorted({int(top) + 1 for top in top_levels}))
