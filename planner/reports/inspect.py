"""A model's structure, what can be pruned of it, and what its parts cost."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS
from planner.preparation.dense_model import open_model, scoring_note
from planner.preparation.space_of_settings import space_of_settings
from planner.preparation.weight_needs import WeightNeeds
from planner.reports.tables import aligned
from planner.settings.search import SearchSettings
from search_spaces.progress import Progress
from search_spaces.space.configuration import dense_configurations
from search_spaces.structure.components import Component

_PARTS = {
    "attention": "in attention",
    "mlp": "in MLPs",
    "experts": "in experts",
    "shared": "in shared experts",
}
"""Titles of the table's columns: the share of the costs in each kind of component."""


def inspect_model(settings: SearchSettings, progress: Progress) -> str:
    """Return a description of a model for a terminal.

    Raises:
        ModelError: If it cannot be loaded or read.
    """
    dense = open_model(settings, progress)
    structure, costs = dense.structure, dense.costs
    components = structure.components
    orders = [np.arange(component.unit_count) for component in components]
    identity = dense.loaded.identity
    space = space_of_settings(identity, structure, settings, orders, holds=dense.holds)
    dense_row = dense_configurations(components)
    kinds = np.array([component.kind for component in components])
    parts_of = {
        kind: _PARTS.get(kind, f"in {kind}")
        for kind in dict.fromkeys((*_PARTS, *kinds.tolist()))
        if kind in kinds
    }
    without = {kind: costs.costs(np.where(kinds == kind, 0, dense_row)[None]) for kind in parts_of}
    smallest = costs.costs(space.configurations(space.smallest()[None]))
    rows = [["", "", "dense", *parts_of.values(), "smallest plan"]]
    for name, total in costs.dense().items():
        adds_up = not METRICS[name].reading_of  # of a mean no component has a share
        parts = [
            f"{1 - float(without[kind][name][0]) / total:.0%}" if adds_up else ""
            for kind in without
        ]
        least = float(smallest[name][0])
        least_text = f"{METRICS[name].amount(least)} {least / total:.2f}x"
        rows.append([name, "", METRICS[name].amount(total, 2), *parts, least_text])
    plans = sum(math.log10(site.top_level + 1) for site in space.sites)
    formats = dict.fromkeys((dense.loaded.stored.dtype, *dense.loaded.stored.apart.values()))
    stored = " and ".join(str(dtype).removeprefix("torch.") for dtype in formats)
    return "\n".join(
        [
            f"{settings.model}: {identity.architecture}, {stored}, fingerprint "
            f"{identity.fingerprint}",
            f"{len(structure.layers)} layers: {_contents(components, len(structure.layers))}",
            f"{len(space.sites)} sites with {_level_counts(space.top_levels)} levels: about "
            f"10^{plans:.0f} plans",
            "",
            aligned(rows),
            "",
            str(WeightNeeds.of(dense, settings)),
            scoring_note(settings),
            f"macs for a token that attends to {settings.window_tokens} tokens",
        ]
    )


def _contents(components: Sequence[Component], layer_count: int) -> str:
    """Return what the components of each kind hold, in words."""
    of_kind = {kind: [each for each in components if each.kind == kind] for kind in _PARTS}
    mixtures, parts = of_kind["experts"], []
    for kind, unit, words in (
        ("attention", "KV groups", "attention"),
        ("mlp", "channels", "the MLP"),
    ):
        if count := len(of_kind[kind]):
            where = words if count == layer_count else f"{words} of {count} of them"
            parts.append(f"{_widths(of_kind[kind], unit)} in {where}")
    if mixtures:
        groups = {component.group_count for component in mixtures} - {1}
        parts.append(
            f"{_counts(experts.member_count for experts in mixtures)} experts"
            + (f" in {_counts(groups)} groups" if groups else "")
            + f" of {_counts(experts.channel_count for experts in mixtures)} channels, "
            f"{_counts(experts.top_k for experts in mixtures)} of which run for a token"
        )
    if of_kind["shared"]:
        parts.append(f"{_widths(of_kind['shared'], 'channels')} in the shared expert")
    return ", ".join(parts)


def _widths(components: Iterable[Component], unit: str) -> str:
    return f"{_counts(component.unit_count for component in components)} {unit}"


def _counts(counts: Iterable[int]) -> str:
    values = sorted(set(counts))
    return f"{values[0]} to {values[-1]}" if len(values) > 3 else " or ".join(map(str, values))


def _level_counts(top_levels: NDArray[np.int_]) -> str:
    return " or ".join(str(count) for count in sorted({int(top) + 1 for top in top_levels}))
