"""The joint search space: all choices of all layers in one genome, and from a plan back to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.configuration import Configurations, ConfigurationTables
from search_spaces.space.orders import Orders
from search_spaces.space.plan import Plan, needed_components
from search_spaces.space.sites import Site
from search_spaces.structure.components import Component


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

    @cached_property
    def shared_sites(self) -> tuple[int, ...]:
        """Positions of the sites that choose for components of several layers, ascending."""
        layers = [
            {self.components[target].layer for target in site.targets} for site in self.sites
        ]
        return tuple(position for position, of_site in enumerate(layers) if len(of_site) > 1)

    @property
    def groups(self) -> Mapping[tuple[int, ...], tuple[int, ...]]:
        """Groups of sites whose costs depend on each other, and the components of each.

        They affect the same components, each of which is in one group. So is each site, but for
        shared ones, which are in all groups that they affect. Positions and groups ascend.
        """
        shared = frozenset(self.shared_sites)
        blocks = list(range(len(self.components)))  # equal where sites of a layer bind components
        for position, site in enumerate(self.sites):
            if position not in shared:
                bound = {blocks[target] for target in site.targets}
                blocks = [min(bound) if block in bound else block for block in blocks]
        groups: dict[tuple[int, ...], list[int]] = {}
        for target, block in enumerate(blocks):
            sites = tuple(
                position
                for position, site in enumerate(self.sites)
                if (
                    target in site.targets
                    if position in shared
                    else blocks[site.targets[0]] == block
                )
            )
            if sites:
                groups.setdefault(sites, []).append(target)
        return {sites: tuple(targets) for sites, targets in sorted(groups.items())}

    def configurations(self, genomes: NDArray[np.int_]) -> Configurations:
        """Turn genomes ``(genomes, sites)`` into configurations ``(genomes, components)``.

        Where several sites choose for a component along a dimension, the one that keeps less
        decides: what is dropped by its layer's site stays so, however wide its kind is.
        """
        configurations = np.tile([table.dense for table in self.tables], (len(genomes), 1))
        for position, site in enumerate(self.sites):
            for target, by_level in site.configurations_by_target.items():
                configurations[:, target] = self.tables[target].merged(
                    configurations[:, target],
                    site.dimension,
                    np.array(by_level)[genomes[:, position]],
                )
        return self._with_stand_ins(configurations, genomes)

    def _with_stand_ins(
        self, configurations: Configurations, genomes: NDArray[np.int_]
    ) -> Configurations:
        """Return configurations in which what is kept stands in for what asks for it."""
        asking = [(place, site) for place, site in enumerate(self.sites) if site.stands_in]
        if not asking:
            return configurations
        asked = np.zeros(configurations.shape, dtype=np.bool_)
        for place, site in asking:
            asked[:, list(site.targets)] |= genomes[:, place, None] == 1
        stands = np.array([component.adds_output for component in self.components])
        return self.tables.with_stand_ins(configurations, asked, stands)

    def repaired(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return genomes that keep some of the components that are needed.

        Args:
            genomes: Any genomes of this space, ``(genomes, sites)``.

        Returns:
            The same, with the first of them at its lowest level where all were dropped; a model
            that has none is left alone.
        """
        # what reads a run's space.json without the model does the same
        needed = list(needed_components(self.components))
        is_without = ~self.configurations(genomes)[:, needed].any(axis=1)
        repaired = genomes.copy()
        if needed and is_without.any():
            unit_sites = (i for i, site in enumerate(self.sites) if site.dimension == "units")
            first = next(i for i in unit_sites if needed[0] in self.sites[i].targets)
            repaired[is_without, first] = self.sites[first].lowest_kept
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
        component, orders = self.components[position], self.orders
        count, options = self.tables[position][configuration]
        members = np.sort(component.members(orders[position], count))
        kept_channels = None
        if options.channels:
            kept_channels = np.sort(orders.channels[position][members, : options.channels], axis=1)
        return ComponentPlan.of(
            members, component.member_count, options, kept_channels, component.channel_count
        )

    def genome(self, plan: Plan) -> NDArray[np.int_]:
        """Return the genome ``(sites,)`` of a plan.

        Raises:
            PlanError: If the plan belongs to another model or is none of this space's.
        """
        plan.check_model(self.identity)
        configurations = self.configurations_of(plan)
        is_stood_in = self.tables.stood_in(configurations)
        genome = np.array(
            [
                1
                if site.stands_in and is_stood_in[list(site.targets)].all()
                else self._level(site, configurations)
                for site in self.sites
            ]
        )
        for position in np.flatnonzero(self.configurations(genome[None])[0] != configurations):
            self._refuse_levels(int(position), configurations)
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
        name, all_options = self.components[position].name, self.block_options[position]
        self._check_channels(plan, position)
        options = plan.sites[name].options(self.components[position].channel_count)
        if options not in all_options:
            raise PlanError(
                f"`{name}` is {options} in this plan, which is none of its levels; search with "
                "the space that made the plan"
            )
        return all_options.index(options)

    def _check_channels(self, plan: Plan, position: int) -> None:
        """Refuse a plan whose experts keep other channels than the most important ones."""
        component = self.components[position]
        component_plan = plan.sites[component.name]
        kept_channels = component_plan.kept_channels(component.channel_count)
        if kept_channels is None:
            return
        important = self.orders.channels[position][component_plan.units, : kept_channels.shape[1]]
        if not np.array_equal(kept_channels, np.sort(important, axis=1)):
            raise PlanError(
                f"a plan of this space keeps the most important channels of the experts of "
                f"`{component.name}`, and this one keeps others; search with the importance that "
                "made the plan"
            )

    def _level(self, site: Site, configurations: Configurations) -> int:
        """Return the level of a site for given configurations ``(components,)``.

        It is the one that says the same of all its targets; if other sites choose for these too,
        the lowest that keeps no less of any target, where a dropped one says nothing. If there is
        none, it is the top level.
        """
        tables = [self.tables[target] for target in site.targets]
        chosen = [int(configurations[target]) for target in site.targets]
        level = tuple(
            int(table.merged(table.dense, site.dimension, configuration))
            for table, configuration in zip(tables, chosen, strict=True)
        )
        if level in site.levels:
            return site.levels.index(level)
        kept = [place for place, configuration in enumerate(chosen) if configuration]
        reaching = (
            position
            for position, offered in enumerate(site.levels)
            if kept
            and all(
                tables[i].merged(offered[i], site.dimension, level[i]) == level[i] for i in kept
            )
        )
        return next(reaching, site.top_level)

    def _refuse_levels(self, position: int, configurations: Configurations) -> NoReturn:
        """Refuse a plan that no levels give the configuration of a component.

        Raises:
            PlanError: Always; it names the site, or the component if it has none.
        """
        sizing = (s for s in self.sites if s.dimension == "units" and position in s.targets)
        site = next(sizing, None)
        if site is None:
            raise PlanError(
                f"a plan of this space leaves `{self.components[position].name}` dense, and this "
                "one prunes it; search with the space that made the plan"
            )
        # of a site that many layers share, the component that differs is named
        is_shared = self.sites.index(site) in self.shared_sites
        name = self.components[position].name if is_shared else site.name
        targets = (position,) if is_shared else site.targets
        units = [self.tables[target][int(configurations[target])][0] for target in targets]
        raise PlanError(
            f"`{name}` keeps {' and '.join(map(str, units))} units in this plan, which is none of "
            "its levels; search with the levels that made the plan"
        )


Genome = tuple[int, ...]
"""One level for each site."""
