"""The joint space: every choice of every layer in one genome, and back to a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import PlanError
from search_spaces.plan import Kept, ModelIdentity, Plan
from search_spaces.sites.attention import attention_levels
from search_spaces.sites.mlp import mlp_levels
from search_spaces.structure.sub_block import SubBlock

SpaceName = Literal["joint", "sub_blocks", "blocks"]
"""``joint``: heads and channels of each attention and MLP; ``sub_blocks``: each attention and MLP
stays whole or goes; ``blocks``: whole layers do."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place where one choice is made."""

    name: str
    targets: tuple[int, ...]
    """Positions of the sub-blocks that the choice resizes."""
    levels: tuple[tuple[int, ...], ...]
    """For each level, ascending, the units kept in each target; level 0 keeps none."""

    @property
    def top_level(self) -> int:
        return len(self.levels) - 1

    @property
    def kept_by_target(self) -> Mapping[int, tuple[int, ...]]:
        """For each target the units kept at each level."""
        return dict(zip(self.targets, zip(*self.levels, strict=True), strict=True))


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """The ordered sites of one model.

    A genome is an integer vector ``(sites,)``, one level for each site. It stands for kept
    counts ``(sub_blocks,)``, and with the units' order for a plan.
    """

    identity: ModelIdentity
    sub_blocks: tuple[SubBlock, ...]
    sites: tuple[Site, ...]
    orders: tuple[NDArray[np.int_], ...]
    """For each sub-block its units from the last to go to the first to go."""

    @property
    def top_levels(self) -> NDArray[np.int_]:
        """The highest level of each site, which keeps all: the dense genome, ``(sites,)``."""
        return np.array([site.top_level for site in self.sites])

    def counts(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        """Turn genomes ``(genomes, sites)`` into kept units ``(genomes, sub_blocks)``."""
        kept = np.zeros((len(genomes), len(self.sub_blocks)), dtype=np.int_)
        for position, site in enumerate(self.sites):
            kept[:, site.targets] = np.array(site.levels)[genomes[:, position]]
        return kept

    def mended(self, genomes: NDArray[np.int_]) -> NDArray[np.int_]:
        """Give genomes that keep some attention, without which no token sees another.

        Args:
            genomes: Any genomes of this space, ``(genomes, sites)``.

        Returns:
            The same, the first attention raised to its lowest level where all were dropped.
        """
        attention = [i for i, block in enumerate(self.sub_blocks) if block.kind == "attention"]
        blind = ~self.counts(genomes)[:, attention].any(axis=1)
        first = next(i for i, site in enumerate(self.sites) if attention[0] in site.targets)
        mended = genomes.copy()
        mended[blind, first] = 1
        return mended

    def smallest(self) -> NDArray[np.int_]:
        """Give the genome that keeps least, ``(sites,)``."""
        lowest: NDArray[np.int_] = self.mended(np.zeros((1, len(self.sites)), dtype=np.int_))[0]
        return lowest

    def plan(self, genome: NDArray[np.int_]) -> Plan:
        """Make a genome ``(sites,)`` portable."""
        counts = self.counts(genome[None])[0]
        return Plan(
            model=self.identity,
            sites={
                block.name: Kept.of(order[:count], block.unit_count)
                for block, order, count in zip(self.sub_blocks, self.orders, counts, strict=True)
            },
        )

    def genome(self, plan: Plan) -> NDArray[np.int_]:
        """Turn a plan back into a genome ``(sites,)``.

        Raises:
            PlanError: Where the plan belongs to another model or is none of this space's.
        """
        plan.check_model(self.identity)
        kept = [self._kept_count(plan, position) for position in range(len(self.sub_blocks))]
        return np.array([self._level(site, kept) for site in self.sites])

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

    def _level(self, site: Site, kept: Sequence[int]) -> int:
        wanted = tuple(kept[target] for target in site.targets)
        if wanted not in site.levels:
            raise PlanError(
                f"`{site.name}` keeps {' and '.join(map(str, wanted))} units in this plan, which "
                "is none of its levels; search with the levels that made the plan"
            )
        return site.levels.index(wanted)


def build_space(
    identity: ModelIdentity,
    sub_blocks: tuple[SubBlock, ...],
    orders: Sequence[NDArray[np.int_]],
    *,
    kind: SpaceName = "joint",
    mlp_step: int | None = None,
) -> SearchSpace:
    """Lay out the sites of a model.

    Args:
        identity: Whose space it is.
        sub_blocks: Attention and MLP of each layer in turn.
        orders: For each sub-block its units from the last to go to the first to go.
        kind: What may be cut.
        mlp_step: MLP channels a level; none: chosen for the width.
    """
    if kind == "joint":
        sites = [_own_site(i, block, mlp_step) for i, block in enumerate(sub_blocks)]
    elif kind == "sub_blocks":
        sites = [_whole_site(i, block) for i, block in enumerate(sub_blocks)]
    else:
        sites = [_layer_site(i, sub_blocks[i : i + 2]) for i in range(0, len(sub_blocks), 2)]
    return SearchSpace(
        identity=identity, sub_blocks=sub_blocks, sites=tuple(sites), orders=tuple(orders)
    )


def _own_site(position: int, block: SubBlock, mlp_step: int | None) -> Site:
    kept = attention_levels(block) if block.kind == "attention" else mlp_levels(block, mlp_step)
    return Site(name=block.name, targets=(position,), levels=tuple((count,) for count in kept))


def _whole_site(position: int, block: SubBlock) -> Site:
    return Site(name=block.name, targets=(position,), levels=((0,), (block.unit_count,)))


def _layer_site(position: int, blocks: Sequence[SubBlock]) -> Site:
    return Site(
        name=f"layers.{blocks[0].layer}",
        targets=tuple(range(position, position + len(blocks))),
        levels=(tuple(0 for _ in blocks), tuple(block.unit_count for block in blocks)),
    )
