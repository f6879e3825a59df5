"""Spaces over mixtures of experts with every kind of site, and candidates of them."""

import numpy as np
from numpy.typing import NDArray

from search_spaces.models.identity import ModelIdentity
from search_spaces.space.build import build_space
from search_spaces.space.choices import Choices
from search_spaces.space.configuration import Configurations
from search_spaces.space.orders import Orders
from search_spaces.space.space import SearchSpace
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import ModelStructure
from tests.models.moe_families import CHANNELS

EVERYTHING = "heads,channels,drops,experts,top_k"


def orders_of(structure: ModelStructure, seed: int = 1) -> Orders:
    """Give any orders of all members, and of the channels of experts."""
    rng = np.random.default_rng(seed)
    members, channels = [], {}
    for position, component in enumerate(structure.components):
        order = rng.permuted(
            np.arange(component.member_count).reshape(component.group_count, -1), axis=1
        )
        members.append(order.ravel())
        if isinstance(component, Mixture):
            rows = np.tile(np.arange(CHANNELS), (component.member_count, 1))
            channels[position] = rng.permuted(rows, axis=1)
    return Orders(members=tuple(members), channels=channels)


def space_of(structure: ModelStructure, words: str = EVERYTHING) -> SearchSpace:
    """Lay out a space over a model, in orders of its own."""
    return build_space(
        ModelIdentity(architecture="Mixture", fingerprint="0123", params=1),
        structure.components,
        orders_of(structure),
        choices=Choices.parse(words),
        mlp_step=4,
    )


def random_genomes(space: SearchSpace, count: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Draw genomes ``(count, sites)`` that keep some attention."""
    return space.repaired(rng.integers(space.top_levels + 1, size=(count, len(space.sites))))


def mixed_configurations(space: SearchSpace, rng: np.random.Generator) -> Configurations:
    """Give forms that share prefixes of every length: children, strangers, a twin, the dense."""
    parents, others = random_genomes(space, 2, rng), random_genomes(space, 4, rng)
    cuts = rng.integers(len(space.sites) + 1, size=4)
    heads = np.arange(len(space.sites)) < cuts[:, None]
    children = np.where(heads, parents[rng.integers(2, size=4)], others)
    every = np.concatenate([parents, children, parents[:1], space.top_levels[None]])
    return rng.permutation(space.configurations(space.repaired(every)))
