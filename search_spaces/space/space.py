"""The joint search space: all choices of all layers in one genome, and from a plan back to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.space.configuration import Configurations, ConfigurationTables
from search_spaces.space.orders import Orders
from search_spaces.space.plan import ComponentPlan, Plan
from search_spaces.space.sparsity import DENSE
from search_spaces.structure.components import Component

SiteDimension = Literal["units", "pattern", "channels", "top_k"]
"""What a site chooses: the number of kept units, or one of their `BlockOptions`, by its name."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One choice of the search, such as the heads that an attention keeps."""

    name: str
    targets: tuple[int, ...]
    """Positions of the components that the choice affects."""
    levels: tuple[tuple[int, ...], ...]
    """For each level, ascending, the configuration of each target, other sites at their top."""
    dimension: SiteDimension = "units"

    @property
    def top_level(self) -> int:
        return len(self.levels) - 1

    @property
    def configurations_by_target(self) -> Mapping[int, tuple[int, ...]]:
        """For each target its configuration at each level, with all other sites at their top."""
        return dict(zip(self.targets, zip(*self.levels, strict=True), strict=True))


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The ordered sites of one model.

    A genome is an integer vector ``(sites,)``, one level for each site. It stands for the
    configurations ``(components,)`` of all components, and with their pruning orders for a plan.
    """

    identity: ModelIdentity
    components: tuple[Component, ...]
    sites: tuple[Site, ...]
    orders: Orders
    """For each component its members by falling importance."""
    block_options: tuple[tuple[BlockOptions, ...], ...]
    """The options of each component, the dense ones first."""
    weights_digest: str = ""
    """Written into plans with weights that are no slices of the dense ones."""

    @cached_property
    def tables(self) -> ConfigurationTables:
        """The configurations of each component."""
        return ConfigurationTables.of(self.components, self.block_options)

    @property
    def top_levels(self) -> NDArray[np.int_]:
        """The highest level of each site, which keeps all: the dense genome, ``(sites,)``."""
        return np.array([site.top_level for site in self.sites])

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Groups of sites whose costs depend on each other, as they affect the same components.

        Each site is in one group. Positions ascend in a group, and groups by their first.
        """
        head = np.arange(len(self.sites))
        first_sites: dict[int, int] = {}
        for position, site in enumerate(self.sites):
            for target in site.targets:
                pair = [first_sites.setdefault(target, position), position]
                first, second = sorted(head[pair])
                head[head == second] = first
        return tuple(tuple(np.flatnonzero(head == first).tolist()) for first in np.unique(head))

    def configurations(self, genomes: NDArray[np.int_]) -> Configurations:
        """Turn genomes ``(genomes, sites)`` into configurations ``(genomes, components)``."""
        units = np.tile([table.unit_count for table in self.tables], (len(genomes), 1))
        options_index = np.zeros_like(units)
        for position, site in enumerate(self.sites):
            for target, configurations in site.configurations_by_target.items():
                chosen = np.array(configurations)[genomes[:, position]]
                if site.dimension == "units":
                    units[:, target] = self.tables[target].units[chosen]
                else:  # the position of a combination is the sum of those of its parts
                    options_index[:, target] += self.tables[target].options_index[chosen]
        return self.tables.index(units, options_index)

    def repaired(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return genomes that keep some attention, without which no token sees another.

        Args:
            genomes: Any genomes of this space, ``(genomes, sites)``.

        Returns:
            The same, with the first attention at its lowest level where all were dropped.
        """
        attention = [
            i for i, component in enumerate(self.components) if component.kind == "attention"
        ]
        without_attention = ~self.configurations(genomes)[:, attention].any(axis=1)
        repaired = genomes.copy()
        if without_attention.any():
            unit_sites = (i for i, site in enumerate(self.sites) if site.dimension == "units")
            first = next(i for i in unit_sites if attention[0] in self.sites[i].targets)
            repaired[without_attention, first] = 1
        return repaired

    def smallest(self) -> NDArray[np.int_]:
        """Return the genome that keeps least, ``(sites,)``."""
        lowest = np.zeros((1, len(self.sites)), dtype=np.int_)
        genome: NDArray[np.int_] = self.repaired(lowest)[0]
        return genome

    def plan(self, genome: NDArray[np.int_]) -> Plan:
        """Return the plan of a genome ``(sites,)``."""
        configurations = self.configurations(genome[None])[0].tolist()
        is_plain = [
            table.is_plain(configuration)
            for table, configuration in zip(self.tables, configurations, strict=True)
        ]
        return Plan(
            model=self.identity,
            sites={
                component.name: self._component_plan(position, configurations[position])
                for position, component in enumerate(self.components)
            },
            weights_digest="" if all(is_plain) else self.weights_digest,
        )

    def _component_plan(self, position: int, configuration: int) -> ComponentPlan:
        component, (count, options) = (
            self.components[position],
            self.tables[position][configuration],
        )
        members = np.sort(component.members(self.orders[position], count))
        pattern = "" if options.pattern.is_dense else str(options.pattern)
        component_plan = ComponentPlan.of(members, component.member_count, pattern)
        if component.experts is None or not count:
            return component_plan
        channels = ""
        if options.channels:
            kept_channels = self.orders.channels[position][members, : options.channels]
            width = component.experts.channel_count
            flat = np.sort((members[:, None] * width + kept_channels).ravel())
            channels = ComponentPlan.of(flat, component.member_count * width).kept
        return component_plan.model_copy(update={"channels": channels, "top_k": options.top_k})

    def genome(self, plan: Plan) -> NDArray[np.int_]:
        """Return the genome ``(sites,)`` of a plan.

        Raises:
            PlanError: If the plan belongs to another model or is none of this space's.
        """
        plan.check_model(self.identity)
        configurations = self.configurations_of(plan)
        genome = np.array([self._level(site, configurations) for site in self.sites])
        for position in np.flatnonzero(self.configurations(genome[None])[0] != configurations):
            raise PlanError(
                f"a plan of this space leaves `{self.components[position].name}` dense, and this "
                "one prunes it; search with the space that made the plan"
            )
        return genome

    def configurations_of(self, plan: Plan) -> Configurations:
        """Return the configurations ``(components,)`` of a plan, levels of the sites or not.

        Raises:
            PlanError: If it keeps other units than the most important ones, has weights that were
                made in another way, or a pattern that is none of this space's.
        """
        if plan.weights_digest not in ("", self.weights_digest):
            raise PlanError(
                "a plan's weights must be made as this run makes them, and its `weights_digest` "
                f"is {plan.weights_digest}, here it is {self.weights_digest or 'none'}; use the "
                "run of the plan"
            )
        positions = range(len(self.components))
        units = [self._unit_count(plan, position) for position in positions]
        options = [self._options_index(plan, position) for position in positions]
        return self.tables.index(np.array(units), np.array(options))

    def _unit_count(self, plan: Plan, position: int) -> int:
        """Return the units that a plan keeps of a component."""
        component, order = self.components[position], self.orders[position]
        component_plan = plan.sites.get(component.name)
        units = np.array([], dtype=np.int_) if component_plan is None else component_plan.units
        count = len(units) // component.group_count
        important = np.sort(component.members(order, count))
        if component_plan is None or not np.array_equal(units, important):
            raise PlanError(
                f"a plan of this space keeps the most important units of `{component.name}`, and "
                "this one keeps others or names none; search with the importance that made the "
                "plan"
            )
        return count

    def _options_index(self, plan: Plan, position: int) -> int:
        """Return the position of a plan's options among those of a component."""
        name = self.components[position].name
        component_plan = plan.sites[name]
        all_options = self.block_options[position]
        patterns = {str(options.pattern): options.pattern for options in all_options}
        if component_plan.pattern and component_plan.pattern not in patterns:
            raise PlanError(
                f"a plan's sparsity must be one of {', '.join([*patterns][1:]) or 'none'} here, "
                f"and `{name}` is {component_plan.pattern[:20]}; search with the space that made "
                "the plan"
            )
        channels = self._channel_count(component_plan, position)
        options = BlockOptions(
            pattern=patterns[component_plan.pattern] if component_plan.pattern else DENSE,
            channels=channels,
            top_k=component_plan.top_k,
        )
        if options not in all_options:
            raise PlanError(
                f"`{name}` keeps {channels or 'all'} channels of each expert and runs "
                f"{component_plan.top_k or 'as many as the dense model'} in this plan, which is "
                "none of its levels; search with the levels that made the plan"
            )
        return all_options.index(options)

    def _channel_count(self, component_plan: ComponentPlan, position: int) -> int:
        """Return the number of channels that each kept expert keeps; 0: all."""
        experts = self.components[position].experts
        kept_channels = (
            None if experts is None else component_plan.kept_channels(experts.channel_count)
        )
        if kept_channels is None:
            return 0
        important = self.orders.channels[position][component_plan.units, : kept_channels.shape[1]]
        if not np.array_equal(kept_channels, np.sort(important, axis=1)):
            raise PlanError(
                f"a plan of this space keeps the most important channels of the experts of "
                f"`{self.components[position].name}`, and this one keeps others; search with the "
                "importance that made the plan"
            )
        return int(kept_channels.shape[1])

    def _level(self, site: Site, configurations: Configurations) -> int:
        """Return the level at which a site has given configurations ``(components,)``."""
        if site.dimension == "units":
            units = [self.tables[target][configurations[target]][0] for target in site.targets]
            level = tuple(
                int(self.tables[target].index(count))
                for target, count in zip(site.targets, units, strict=True)
            )
        else:
            (target,) = site.targets
            table = self.tables[target]
            count, options = table[configurations[target]]
            if not count:  # dropped: its options do not matter
                return site.top_level
            units = [table.unit_count]
            alone = replace(DENSE_OPTIONS, **{site.dimension: getattr(options, site.dimension)})
            level = (int(table.index(table.unit_count, table.options.index(alone))),)
        if level not in site.levels:
            raise PlanError(
                f"`{site.name}` keeps {' and '.join(map(str, units))} units in this plan, which "
                "is none of its levels; search with the levels that made the plan"
            )
        return site.levels.index(level)


Genome = tuple[int, ...]
"""One level for each site."""
