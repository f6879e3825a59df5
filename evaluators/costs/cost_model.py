"""Costs of candidates, in every cost metric at once."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from typing import Self

import numpy as np

from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats, total
from evaluators.latency.latency_table import LatencyTable
from evaluators.metric import METRICS, Kind
from search_spaces.models.stored import StoredFormat
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, combined_options
from search_spaces.space.configuration import (
    Configurations,
    ConfigurationTables,
    dense_configurations,
)
from search_spaces.space.formats.component_formats import Sources
from search_spaces.space.number_format import NumberFormat
from search_spaces.space.sites import Site
from search_spaces.space.space import SearchSpace
from search_spaces.structure.as_stored import as_stored
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

Keeps = Callable[[Component, NumberFormat], bool]
"""Whether the matrices of a component are stored in a number format where it is asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CostedModel:
    """A model as each cost metric reads it, and the tables that were made of it so far."""

    structure: ModelStructure
    stored: StoredFormat
    """Number formats of its weights on disk, and so of an export's."""
    context: int
    """Tokens that a token attends to, for the multiply–accumulates of attention."""
    block_options: ComponentOptions
    """For each component its options, the dense one first."""
    sources: Sources = field(default_factory=dict)
    """The number formats in which its matrices came from a quantised file."""
    adds_bias: bool = False
    """Whether pruned components gain a bias."""
    latencies: LatencyTable | None = None
    """What was timed of it on the device, if anything was."""
    _tables: dict[str, CostTable] = field(default_factory=dict)

    @cached_property
    def on_disk(self) -> ModelStructure:
        """The model without numbers, its weights in the dtypes that they have on disk."""
        return as_stored(self.structure, self.stored)

    def table(self, name: str) -> CostTable:
        """Return the table of a cost, which ``NAME_table`` in its file makes once."""
        if name not in self._tables:
            module = import_module(f"evaluators.costs.{METRICS[name].file or name}")
            make: Callable[[CostedModel], CostTable] = getattr(module, f"{name}_table")
            self._tables[name] = make(self)
        return self._tables[name]

    def tables(self) -> dict[str, CostTable]:
        """Return the table of each cost that the model has, by name."""
        kinds: set[Kind] = {"exact", "sparse"}
        kinds |= {"experts"} if self.structure.has_experts else set()
        kinds |= {"measured"} if self.latencies is not None else set()
        return {
            metric.name: self.table(metric.name)
            for metric in METRICS.values()
            if metric.kind in kinds and not metric.reading_of
        }


class CostModel:
    """The costs of every candidate of one model.

    Latency and throughput if it has a table; active parameters, and bytes of experts read for a
    token, if the model has experts.

    Args:
        structure: The model.
        stored: Number formats of its weights on disk, and so of an export's.
        context: Tokens that a token attends to, for the multiply–accumulates of attention.
        block_options: For each component its options, the dense one first; None: that alone.
        sources: The number formats in which its matrices came from a quantised file.
        adds_bias: Whether pruned components gain a bias.
    """

    def __init__(
        self,
        structure: ModelStructure,
        *,
        stored: StoredFormat,
        context: int,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        sources: Sources | None = None,
        adds_bias: bool = False,
    ) -> None:
        self._structure = structure
        self.block_options = tuple(
            block_options or [combined_options()] * len(structure.components)
        )
        self._model = CostedModel(
            structure=structure,
            stored=stored,
            context=context,
            block_options=self.block_options,
            sources=sources or {},
            adds_bias=adds_bias,
        )
        self._cost_tables = self._model.tables()

    @property
    def table(self) -> LatencyTable | None:
        """The table that latency is composed from, if there is one."""
        return self._model.latencies

    def timed(self, table: LatencyTable) -> Self:
        """Return a cost model of the same model that has latency and throughput too."""
        timed = copy.copy(self)
        timed._model = replace(self._model, latencies=table, _tables=dict(self._cost_tables))
        timed._cost_tables = timed._model.tables()
        return timed

    def costs(self, configurations: Configurations) -> Mapping[str, Floats]:
        """Return each metric's cost ``(candidates,)``.

        Args:
            configurations: ``(candidates, components)``
        """
        costs = {
            name: total(cost_table, self._structure, configurations)
            for name, cost_table in self._cost_tables.items()
        }
        # means and rates are no sums over components, so that they have no tables of their own
        costs["bits"] = 8 * costs["size"] / costs["params"]
        if self.table is not None:
            costs["throughput"] = self.table.setting.workload.throughput(costs["latency"])
        return costs

    def dense(self) -> Mapping[str, float]:
        """Return the dense model's cost in each metric."""
        return self.of_one(dense_configurations(self._structure.components))

    def of_one(self, configurations: Configurations) -> dict[str, float]:
        """Return the cost of one candidate ``(components,)`` in each metric."""
        return {name: float(cost[0]) for name, cost in self.costs(configurations[None]).items()}

    def written(
        self, configurations: Configurations, stored: StoredFormat, keeps: Keeps
    ) -> dict[str, float]:
        """Return the costs of a candidate as an export writes it, with zeros and all.

        Args:
            configurations: ``(components,)``
            stored: The formats of weights for which a plan chooses none.
            keeps: Whether the matrices of a component are written in a number format as such; if
                not, they are dequantised.
        """
        components = self._structure.components
        tables = ConfigurationTables.of(components, self.block_options)
        chosen = tables.options_index(configurations).tolist()
        written = [
            options[i] if keeps(component, options[i].format) else options[i].dequantized
            for component, options, i in zip(components, self.block_options, chosen, strict=True)
        ]
        block_options = [tuple(dict.fromkeys((DENSE_OPTIONS, each))) for each in written]
        costs = CostModel(
            self._structure,
            stored=stored,
            context=self._model.context,
            block_options=block_options,
            sources=self._model.sources,
            adds_bias=self._model.adds_bias,
        )
        places = np.array([len(options) - 1 for options in block_options])
        own = ConfigurationTables.of(components, block_options)
        return costs.of_one(own.index(tables.units(configurations), places))

    def joint_costs(
        self, metric: str, space: SearchSpace
    ) -> tuple[tuple[tuple[int, ...], Floats], ...]:
        """Return, for each group of sites, the cost of each combination of their levels.

        Norms that two components share are left out.

        Returns:
            For each group the positions of its sites, and a table with an axis for each of them.
        """
        tables = self._cost_tables[metric].tables
        return tuple(
            (group, _joint_table(space, group, targets, tables))
            for group, targets in space.groups.items()
        )


def _joint_table(
    space: SearchSpace, group: Sequence[int], targets: Sequence[int], tables: Sequence[Floats]
) -> Floats:
    """Sum the costs of some components at each combination of the levels of their sites."""
    # a space of these alone, whose configurations are quick to enumerate
    alone = replace(
        space,
        components=tuple(space.components[target] for target in targets),
        block_options=tuple(space.block_options[target] for target in targets),
        sites=tuple(_only(space.sites[position], targets) for position in group),
    )
    shape = [len(site.levels) for site in alone.sites]
    configurations = alone.configurations(np.indices(shape).reshape(len(shape), -1).T)
    costs = sum(
        tables[target][configuration]
        for target, configuration in zip(targets, configurations.T, strict=True)
    )
    return np.reshape(costs, shape)


def _only(site: Site, targets: Sequence[int]) -> Site:
    """Return a site that chooses for some of its targets alone, numbered as these are."""
    places = [place for place, target in enumerate(site.targets) if target in targets]
    return replace(
        site,
        targets=tuple(targets.index(site.targets[place]) for place in places),
        levels=tuple(tuple(level[place] for place in places) for level in site.levels),
    )
