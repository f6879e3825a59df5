"""The joint space: every choice of every layer in one genome, and back to a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search_spaces.choices import Choices
from search_spaces.errors import PlanError
from search_spaces.forms import Forms, forms_of, kept_in, patterns_in, unit_counts
from search_spaces.patterns import DENSE, Pattern
from search_spaces.plan import Kept, ModelIdentity, Plan
from search_spaces.sites.attention import attention_levels
from search_spaces.sites.mlp import mlp_levels
from search_spaces.structure.sub_block import SubBlock


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place where one choice is made."""

    name: str
    targets: tuple[int, ...]
    """Positions of the sub-blocks that the choice changes."""
    levels: tuple[tuple[int, ...], ...]
    """For each level, ascending, the units kept in each target, with dense weights; or, of a site
    of weights, the form of each target with all its units."""
    weights: bool = False
    """Whether the choice is how sparse the weights are, and not which units stay."""

    @property
    def top_level(self) -> int:
        return len(self.levels) - 1

    @property
    def forms_by_target(self) -> Mapping[int, tuple[int, ...]]:
        """For each target its form at each level, with all other sites at their top."""
        return dict(zip(self.targets, zip(*self.levels, strict=True), strict=True))


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The ordered sites of one model.

    A genome is an integer vector ``(sites,)``, one level for each site. It stands for forms
    ``(sub_blocks,)``, and with the units' order for a plan.
    """

    identity: ModelIdentity
    sub_blocks: tuple[SubBlock, ...]
    sites: tuple[Site, ...]
    orders: tuple[NDArray[np.int_], ...]
    """For each sub-block its units from the last to go to the first to go."""
    patterns: tuple[Pattern, ...] = (DENSE,)
    """Of sparsity, the dense one first."""
    repair: str = ""
    """What plans say of weights that are not the dense model's own."""

    @property
    def top_levels(self) -> NDArray[np.int_]:
        """The highest level of each site, which keeps all: the dense genome, ``(sites,)``."""
        return np.array([site.top_level for site in self.sites])

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sites that change the same sub-blocks, and so cost together: each site is in one group.

        Positions ascend in a group, and groups by their first.
        """
        head = np.arange(len(self.sites))
        known: dict[int, int] = {}
        for position, site in enumerate(self.sites):
            for target in site.targets:
                first, second = sorted(head[[known.setdefault(target, position), position]])
                head[head == second] = first
        return tuple(tuple(np.flatnonzero(head == first).tolist()) for first in np.unique(head))

    def forms(self, genomes: NDArray[np.int_]) -> Forms:
        """Turn genomes ``(genomes, sites)`` into forms ``(genomes, sub_blocks)``."""
        widths = unit_counts(self.sub_blocks)
        kept = np.tile(widths, (len(genomes), 1))
        patterns = np.zeros_like(kept)
        for position, site in enumerate(self.sites):
            chosen = np.array(site.levels)[genomes[:, position]]
            targets = list(site.targets)
            if site.weights:
                patterns[:, targets] = patterns_in(chosen, widths[targets])
            else:
                kept[:, targets] = chosen
        return forms_of(kept, patterns, widths)

    def mended(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        """Give genomes that keep some attention, without which no token sees another.

        Args:
            genomes: Any genomes of this space, ``(genomes, sites)``.

        Returns:
            The same, the first attention raised to its lowest level where all were dropped.
        """
        attention = [i for i, block in enumerate(self.sub_blocks) if block.kind == "attention"]
        blind = ~self.forms(genomes)[:, attention].any(axis=1)
        mended = genomes.copy()
        if blind.any():
            units = (i for i, site in enumerate(self.sites) if not site.weights)
            first = next(i for i in units if attention[0] in self.sites[i].targets)
            mended[blind, first] = 1
        return mended

    def smallest(self) -> NDArray[np.int_]:
        """Give the genome that keeps least, ``(sites,)``."""
        lowest: NDArray[np.int_] = self.mended(np.zeros((1, len(self.sites)), dtype=np.int_))[0]
        return lowest

    def plan(self, genome: NDArray[np.int_]) -> Plan:
        """Make a genome ``(sites,)`` portable."""
        widths, forms = unit_counts(self.sub_blocks), self.forms(genome[None])[0]
        choices = zip(
            self.sub_blocks,
            self.orders,
            kept_in(forms, widths),
            patterns_in(forms, widths),
            strict=True,
        )
        # what is whole or gone holds the dense model's own weights
        altered = bool(((forms != 0) & (forms != widths)).any())
        return Plan(
            model=self.identity,
            sites={
                block.name: Kept.of(order[:count], block.unit_count, self._written(pattern))
                for block, order, count, pattern in choices
            },
            repair=self.repair if altered else "",
        )

    def _written(self, pattern: int) -> str:
        return str(self.patterns[pattern]) if pattern else ""

    def genome(self, plan: Plan) -> NDArray[np.int_]:
        """Turn a plan back into a genome ``(sites,)``.

        Raises:
            PlanError: Where the plan belongs to another model or is none of this space's.
        """
        plan.check_model(self.identity)
        forms = self.forms_of(plan)
        genome = np.array([self._level(site, forms) for site in self.sites])
        for position in np.flatnonzero(self.forms(genome[None])[0] != forms):
            raise PlanError(
                f"a plan of this space leaves `{self.sub_blocks[position].name}` whole, and this "
                "one cuts it; search with the space that made the plan"
            )
        return genome

    def forms_of(self, plan: Plan) -> Forms:
        """Give the forms ``(sub_blocks,)`` of a plan, whether or not they are levels of the sites.

        Raises:
            PlanError: Where it keeps other units than the best ranked, has weights that were
                made in another way, or a pattern that is none of this space's.
        """
        if plan.repair not in ("", self.repair):
            raise PlanError(
                "a plan's weights must be made as this run makes them, and its `repair` is "
                f"{plan.repair}, here it is {self.repair or 'none'}; use the run of the plan"
            )
        widths = unit_counts(self.sub_blocks)
        kept = [self._kept_count(plan, position) for position in range(len(widths))]
        patterns = [self._pattern(plan, block.name) for block in self.sub_blocks]
        return forms_of(np.array(kept), np.array(patterns), widths)

    def _kept_count(self, plan: Plan, position: int) -> int:
        block, order = self.sub_blocks[position], self.orders[position]
        choice = plan.sites.get(block.name)
        units = np.array([], dtype=np.int_) if choice is None else choice.units
        if choice is None or not np.array_equal(units, np.sort(order[: len(units)])):
            raise PlanError(
                f"a plan of this space keeps the best-ranked units of `{block.name}`, and this "
                "one keeps others or names none; search with the ranking that made the plan"
            )
        return len(units)

    def _pattern(self, plan: Plan, name: str) -> int:
        written = plan.sites[name].pattern
        known = [str(pattern) for pattern in self.patterns]
        if written and written not in known:
            raise PlanError(
                f"a plan's sparsity must be one of {', '.join(known[1:]) or 'none'} here, and "
                f"`{name}` is {written[:20]}; search with the space that made the plan"
            )
        return known.index(written) if written else 0

    def _level(self, site: Site, forms: Forms) -> int:
        targets = list(site.targets)
        widths = unit_counts(self.sub_blocks)[targets]
        kept, patterns = kept_in(forms[targets], widths), patterns_in(forms[targets], widths)
        if site.weights:
            if not kept.all():  # dropped: how sparse it would be does not matter
                return site.top_level
            wanted = tuple(forms_of(widths, patterns, widths).tolist())
        else:
            wanted = tuple(kept.tolist())
        if wanted not in site.levels:
            raise PlanError(
                f"`{site.name}` keeps {' and '.join(map(str, kept))} units in this plan, which "
                "is none of its levels; search with the levels that made the plan"
            )
        return site.levels.index(wanted)


def build_space(  # noqa: PLR0913  (all that a space is laid out from)
    identity: ModelIdentity,
    sub_blocks: tuple[SubBlock, ...],
    orders: Sequence[NDArray[np.int_]],
    *,
    choices: Choices,
    mlp_step: int | None = None,
    patterns: tuple[Pattern, ...] = (DENSE,),
    repair: str = "",
) -> SearchSpace:
    """Lay out the sites of a model.

    Args:
        identity: Whose space it is.
        sub_blocks: Attention and MLP of each layer in turn.
        orders: For each sub-block its units from the last to go to the first to go.
        choices: What may be cut.
        mlp_step: MLP channels a level; none: chosen for the width.
        patterns: Of sparsity that weights may have, the dense one first.
        repair: What its plans say of weights that are not the dense model's own.
    """
    sites: list[Site] = []
    for start in range(0, len(sub_blocks), 2):
        pair = sub_blocks[start : start + 2]
        if choices.layers:
            sites.append(_layer_site(start, pair))
        for position, block in enumerate(pair, start):
            sites += _own_sites(position, block, choices, mlp_step)
            if len(patterns) > 1:
                sites.append(_weights_site(position, block, len(patterns)))
    return SearchSpace(
        identity=identity,
        sub_blocks=sub_blocks,
        sites=tuple(sites),
        orders=tuple(orders),
        patterns=patterns,
        repair=repair,
    )


def unit_levels(block: SubBlock, choices: Choices, mlp_step: int | None) -> tuple[int, ...]:
    """Give the numbers of units to choose from in a sub-block, all of them the last."""
    if block.kind == "attention":
        finer = attention_levels(block) if choices.heads else (0, block.unit_count)
    else:
        finer = mlp_levels(block, mlp_step) if choices.channels else (0, block.unit_count)
    drops = choices.drops or choices.layers
    return tuple(count for count in finer if count or drops)


def _own_sites(
    position: int, block: SubBlock, choices: Choices, mlp_step: int | None
) -> list[Site]:
    """Give the site of a sub-block's units; none where they all stay, or go with the layer."""
    kept = unit_levels(block, choices, mlp_step)
    if choices.layers or len(kept) == 1:
        return []
    levels = tuple((count,) for count in kept)
    return [Site(name=block.name, targets=(position,), levels=levels)]


def _weights_site(position: int, block: SubBlock, patterns: int) -> Site:
    whole = block.unit_count
    forms = (whole + pattern * (whole + 1) for pattern in reversed(range(patterns)))
    levels = tuple((form,) for form in forms)
    return Site(name=f"{block.name}.weights", targets=(position,), levels=levels, weights=True)


def _layer_site(position: int, blocks: Sequence[SubBlock]) -> Site:
    return Site(
        name=f"layers.{blocks[0].layer}",
        targets=tuple(range(position, position + len(blocks))),
        levels=(tuple(0 for _ in blocks), tuple(block.unit_count for block in blocks)),
    )
