"""The joint space: every choice of every layer in one genome, and back to a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.models.identity import ModelIdentity
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.space.configuration import (
    Configurations,
    configurations_of,
    options_in,
    unit_counts,
    units_in,
)
from search_spaces.space.orders import Orders
from search_spaces.space.plan import ComponentPlan, Plan
from search_spaces.space.sparsity import DENSE
from search_spaces.structure.components import Component

SiteKind = Literal["units", "pattern", "channels", "top_k"]
"""What a site turns: the units kept, or one way in which they are thinned out."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place where one choice is made."""

    name: str
    targets: tuple[int, ...]
    """Positions of the components that the choice changes."""
    levels: tuple[tuple[int, ...], ...]
    """For each level, ascending, the form of each target with all other sites at their top."""
    kind: SiteKind = "units"

    @property
    def top_level(self) -> int:
        return len(self.levels) - 1

    @property
    def configurations_by_target(self) -> Mapping[int, tuple[int, ...]]:
        """For each target its form at each level, with all other sites at their top."""
        return dict(zip(self.targets, zip(*self.levels, strict=True), strict=True))


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The ordered sites of one model.

    A genome is an integer vector ``(sites,)``, one level for each site. It stands for forms
    ``(components,)``, and with the units' order for a plan.
    """

    identity: ModelIdentity
    components: tuple[Component, ...]
    sites: tuple[Site, ...]
    orders: Orders
    """For each component its members from the last to go to the first to go."""
    block_options: tuple[tuple[BlockOptions, ...], ...]
    """For each component how it may be thinned out, the dense way first."""
    weights_digest: str = ""
    """What plans say of weights that are not the dense model's own."""

    @property
    def top_levels(self) -> NDArray[np.int_]:
        """The highest level of each site, which keeps all: the dense genome, ``(sites,)``."""
        return np.array([site.top_level for site in self.sites])

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sites that change the same components, and so cost together: each site is in one group.

        Positions ascend in a group, and groups by their first.
        """
        head = np.arange(len(self.sites))
        known: dict[int, int] = {}
        for position, site in enumerate(self.sites):
            for target in site.targets:
                first, second = sorted(head[[known.setdefault(target, position), position]])
                head[head == second] = first
        return tuple(tuple(np.flatnonzero(head == first).tolist()) for first in np.unique(head))

    def configurations(self, genomes: NDArray[np.int_]) -> Configurations:
        """Turn genomes ``(genomes, sites)`` into forms ``(genomes, components)``."""
        widths = unit_counts(self.components)
        kept = np.tile(widths, (len(genomes), 1))
        block_options = np.zeros_like(kept)
        for position, site in enumerate(self.sites):
            chosen = np.array(site.levels)[genomes[:, position]]
            targets = list(site.targets)
            if site.kind == "units":
                kept[:, targets] = chosen
            else:  # the position of a combination is the sum of those of its parts
                block_options[:, targets] += options_in(chosen, widths[targets])
        return configurations_of(kept, block_options, widths)

    def repaired(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        """Give genomes that keep some attention, without which no token sees another.

        Args:
            genomes: Any genomes of this space, ``(genomes, sites)``.

        Returns:
            The same, the first attention raised to its lowest level where all were dropped.
        """
        attention = [
            i for i, component in enumerate(self.components) if component.kind == "attention"
        ]
        blind = ~self.configurations(genomes)[:, attention].any(axis=1)
        repaired = genomes.copy()
        if blind.any():
            units = (i for i, site in enumerate(self.sites) if site.kind == "units")
            first = next(i for i in units if attention[0] in self.sites[i].targets)
            repaired[blind, first] = 1
        return repaired

    def smallest(self) -> NDArray[np.int_]:
        """Give the genome that keeps least, ``(sites,)``."""
        lowest: NDArray[np.int_] = self.repaired(np.zeros((1, len(self.sites)), dtype=np.int_))[0]
        return lowest

    def plan(self, genome: NDArray[np.int_]) -> Plan:
        """Make a genome ``(sites,)`` portable."""
        widths, configurations = unit_counts(self.components), self.configurations(genome[None])[0]
        kept, block_options = units_in(configurations, widths), options_in(configurations, widths)
        # what is whole or gone holds the dense model's own weights
        altered = bool(((configurations != 0) & (configurations != widths)).any())
        return Plan(
            model=self.identity,
            sites={
                component.name: self._kept(position, kept[position], block_options[position])
                for position, component in enumerate(self.components)
            },
            weights_digest=self.weights_digest if altered else "",
        )

    def _kept(self, position: int, count: int, options: int) -> ComponentPlan:
        """Write down what is kept of one component."""
        component, chosen = self.components[position], self.block_options[position][options]
        members = np.sort(component.members(self.orders[position], count))
        pattern = "" if chosen.pattern.is_dense else str(chosen.pattern)
        kept = ComponentPlan.of(members, component.member_count, pattern)
        if component.experts is None or not count:
            return kept
        channels = ""
        if chosen.channels:
            own = self.orders.channels[position][members, : chosen.channels]
            whole = component.experts.channel_count
            flat = np.sort((members[:, None] * whole + own).ravel())
            channels = ComponentPlan.of(flat, component.member_count * whole).kept
        return kept.model_copy(update={"channels": channels, "top_k": chosen.top_k})

    def genome(self, plan: Plan) -> NDArray[np.int_]:
        """Turn a plan back into a genome ``(sites,)``.

        Raises:
            PlanError: Where the plan belongs to another model or is none of this space's.
        """
        plan.check_model(self.identity)
        configurations = self.configurations_of(plan)
        genome = np.array([self._level(site, configurations) for site in self.sites])
        for position in np.flatnonzero(self.configurations(genome[None])[0] != configurations):
            raise PlanError(
                f"a plan of this space leaves `{self.components[position].name}` whole, and this "
                "one cuts it; search with the space that made the plan"
            )
        return genome

    def configurations_of(self, plan: Plan) -> Configurations:
        """Give the forms ``(components,)`` of a plan, whether or not they are levels of the sites.

        Raises:
            PlanError: Where it keeps other units than the best ranked, has weights that were
                made in another way, or a pattern that is none of this space's.
        """
        if plan.weights_digest not in ("", self.weights_digest):
            raise PlanError(
                "a plan's weights must be made as this run makes them, and its `repair` is "
                f"{plan.weights_digest}, here it is {self.weights_digest or 'none'}; use the run "
                "of the plan"
            )
        widths = unit_counts(self.components)
        kept = [self._kept_count(plan, position) for position in range(len(widths))]
        block_options = [self._options(plan, position) for position in range(len(widths))]
        return configurations_of(np.array(kept), np.array(block_options), widths)

    def _kept_count(self, plan: Plan, position: int) -> int:
        component, order = self.components[position], self.orders[position]
        choice = plan.sites.get(component.name)
        units = np.array([], dtype=np.int_) if choice is None else choice.units
        count = len(units) // component.group_count
        if choice is None or not np.array_equal(units, np.sort(component.members(order, count))):
            raise PlanError(
                f"a plan of this space keeps the best-ranked units of `{component.name}`, and "
                "this one keeps others or names none; search with the ranking that made the plan"
            )
        return count

    def _options(self, plan: Plan, position: int) -> int:
        name, choice = self.components[position].name, plan.sites[self.components[position].name]
        known = self.block_options[position]
        patterns = {str(options.pattern): options.pattern for options in known}
        if choice.pattern and choice.pattern not in patterns:
            raise PlanError(
                f"a plan's sparsity must be one of {', '.join([*patterns][1:]) or 'none'} here, "
                f"and `{name}` is {choice.pattern[:20]}; search with the space that made the plan"
            )
        channels = self._channel_count(choice, position)
        pattern = patterns[choice.pattern] if choice.pattern else DENSE
        wanted = BlockOptions(pattern=pattern, channels=channels, top_k=choice.top_k)
        if wanted not in known:
            raise PlanError(
                f"`{name}` keeps {channels or 'all'} channels of each expert and runs "
                f"{choice.top_k or 'as many as ever'} in this plan, which is none of its levels; "
                "search with the levels that made the plan"
            )
        return known.index(wanted)

    def _channel_count(self, choice: ComponentPlan, position: int) -> int:
        """Give the channels that each kept expert keeps; 0: all."""
        experts = self.components[position].experts
        kept = None if experts is None else choice.kept_channels(experts.channel_count)
        if kept is None:
            return 0
        own = self.orders.channels[position][choice.units, : kept.shape[1]]
        if not np.array_equal(kept, np.sort(own, axis=1)):
            raise PlanError(
                f"a plan of this space keeps the best-ranked channels of the experts of "
                f"`{self.components[position].name}`, and this one keeps others; search with the "
                "ranking that made the plan"
            )
        return int(kept.shape[1])

    def _level(self, site: Site, configurations: Configurations) -> int:
        targets = list(site.targets)
        widths = unit_counts(self.components)[targets]
        kept, block_options = (
            units_in(configurations[targets], widths),
            options_in(configurations[targets], widths),
        )
        if site.kind != "units":
            if not kept.all():  # dropped: how it would be thinned out does not matter
                return site.top_level
            known = self.block_options[targets[0]]
            value = getattr(known[block_options[0]], site.kind)
            alone = replace(DENSE_OPTIONS, **{site.kind: value})
            kept, block_options = widths, np.array([known.index(alone)])
            wanted = tuple(configurations_of(kept, block_options, widths).tolist())
        else:
            wanted = tuple(kept.tolist())
        if wanted not in site.levels:
            raise PlanError(
                f"`{site.name}` keeps {' and '.join(map(str, kept))} units in this plan, which "
                "is none of its levels; search with the levels that made the plan"
            )
        return site.levels.index(wanted)


Genome = tuple[int, ...]
"""One level per site."""
