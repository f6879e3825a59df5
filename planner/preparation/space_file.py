"""A search space and its costs as a run's ``space.json`` describes them."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

import numpy as np

from evaluators.costs.cost_model import CostModel
from planner.preparation.dense_model import DenseModel
from planner.preparation.prepare import run_space
from planner.runs.run_store import RunStore
from planner.runs.space_description import (
    KEPT_WHOLE,
    VERSION,
    ComponentDescription,
    Kept,
    SiteDescription,
    SpaceDescription,
    read_space,
    save_space,
)
from search_spaces.errors import InputError, RunError
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.space.plan import needed_components
from search_spaces.space.sites import Site
from search_spaces.space.space import SearchSpace
from search_spaces.structure.components import Component, UnitChoice

logger = logging.getLogger(__name__)

_UNITS: Mapping[UnitChoice | None, str] = {
    "heads": "KV groups",
    "channels": "channels",
    "experts": "experts",
    None: KEPT_WHOLE,
}
_MOST_GENOMES = 4096
"""Whose costs are computed at a time."""


def describe_space(space: SearchSpace, costs: CostModel) -> SpaceDescription:
    """Describe a search space for readers without its model."""
    return SpaceDescription(
        version=VERSION,
        model=space.identity,
        components=tuple(map(_component, space.components)),
        sites=tuple(
            SiteDescription(
                name=site.name,
                dimension=site.dimension,
                targets=tuple(space.components[target].name for target in site.targets),
                levels=_levels(space, site),
                stands_in=site.stands_in,
                costs=of_site,
            )
            for site, of_site in zip(space.sites, _site_costs(space, costs), strict=True)
        ),
        dense_costs=costs.dense(),
        needed=tuple(space.components[i].name for i in needed_components(space.components)),
    )


def restore_space(run: RunStore, dense: DenseModel) -> None:
    """Make a run's ``space.json`` again if it is lost or damaged, and the folder allows it."""
    digest = run.metadata.space_digest
    try:
        read_space(run.folder, digest)
    except RunError as damage:
        logger.warning("%s", damage)
        with suppress(InputError):  # nothing but what shows layers reads it
            space = run_space(dense, run.settings, run.folder)
            described = describe_space(space, dense.costs)
            if digest in {None, described.digest}:
                save_space(run.folder, described)
                logger.warning("it is made again")


def _component(component: Component) -> ComponentDescription:
    channels = component.channel_count
    return ComponentDescription(
        name=component.name,
        kind=component.kind,
        layer=component.layer,
        units=component.unit_count,
        unit=_UNITS[component.unit_choice],
        features=channels or _features(component),
        groups=component.group_count,
        channels=channels,
        top_k=component.top_k,
        stands_in=component.adds_output,
    )


def _features(component: Component) -> int:
    """Return the inputs of a component's last matrix that belong to one unit; 0: none do."""
    inputs = sum(len(projection.units) for projection in component.projections[-1:])
    return inputs // component.unit_count


def _levels(space: SearchSpace, site: Site) -> tuple[tuple[Kept, ...], ...]:
    tables = [space.tables[target] for target in site.targets]
    return tuple(
        tuple(
            Kept(units=units, options=_changed(options))
            for units, options in (t[c] for t, c in zip(tables, level, strict=True))
        )
        for level in site.levels
    )


def _changed(options: BlockOptions) -> dict[str, int | str]:
    """Return the options that are not the dense model's, by name."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {
        name: value if isinstance(value, int) else str(value)
        for name, value in values.items()
        if value != getattr(DENSE_OPTIONS, name)
    }


def _site_costs(space: SearchSpace, costs: CostModel) -> list[dict[str, tuple[float, ...]]]:
    """Return for each site each cost of the model at its levels, other sites at their top."""
    counts = [len(site.levels) for site in space.sites]
    sites = np.repeat(np.arange(len(counts)), counts)
    levels = np.concatenate([np.arange(count) for count in counts])
    columns: dict[str, list[Any]] = {}  # (levels,) each
    for start in range(0, len(sites), _MOST_GENOMES):
        chunk = slice(start, start + _MOST_GENOMES)
        genomes = np.tile(space.top_levels, (len(sites[chunk]), 1))
        genomes[np.arange(len(genomes)), sites[chunk]] = levels[chunk]
        for name, values in costs.costs(space.configurations(genomes)).items():
            columns.setdefault(name, []).append(values)
    ends = np.cumsum(counts)
    by_site = {name: np.split(np.concatenate(parts), ends[:-1]) for name, parts in columns.items()}
    return [
        {name: tuple(parts[position].tolist()) for name, parts in by_site.items()}
        for position in range(len(counts))
    ]
