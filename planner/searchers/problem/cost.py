"""One cost of every genome, as a sum over groups of sites, which may share some."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Sites whose costs depend on one another; joints add up."""

    sites: tuple[int, ...]
    """Positions, ascending."""
    table: NDArray[np.float64]
    """Share of the dense model's cost at each combination of their levels, an axis for each site,
    not decreasing along any; levels may cost alike."""

    def __post_init__(self) -> None:
        assert self.table.ndim == len(self.sites) > 0

    def along(self, site: int, genome: NDArray[np.int_]) -> NDArray[np.float64]:
        """Return the costs of a site's levels with the others as in a genome, ``(levels,)``."""
        if len(self.sites) == 1:
            return self.table
        index = (slice(None) if other == site else genome[other] for other in self.sites)
        return np.asarray(self.table[tuple(index)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """One cost, additive over joints, as a share of the dense model's."""

    joints: tuple[Joint, ...]
    """Each site is in one, and most are alone in it; a shared one is in many."""
    fixed: float
    """What no site can remove."""
    limit: float | None = None
    """Most that the budget allows; none where it names none."""

    def __post_init__(self) -> None:
        sites = {site for joint in self.joints for site in joint.sites}
        assert sites == set(range(len(sites)))

    @cached_property
    def tables(self) -> tuple[NDArray[np.float64], ...]:
        """For each site the costs with all others dense, ``(levels,)``, not decreasing."""
        dense = -np.ones(len(self._joints_by_site), dtype=np.int_)  # the last of each axis
        return tuple(self.along(site, dense) for site in range(len(dense)))

    def of(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Return the cost of genomes, ``(genomes,)`` of ``(genomes, sites)``.

        >>> width = Joint(sites=(1,), table=np.array([0.0, 0.25]))
        >>> pair = Joint(sites=(0, 2), table=np.array([[0.0, 0.0], [0.25, 0.5]]))
        >>> Cost(joints=(width, pair), fixed=0.25).of(np.array([[1, 1, 1], [1, 0, 0]])).tolist()
        [1.0, 0.5]
        """
        sites, strides, starts, offsets = self._flat_layout
        # level · stride, summed over a joint, is where the genome's cell lies in its flat table
        places = np.add.reduceat(genomes[..., sites] * strides, starts, axis=-1) + offsets
        return np.asarray(self.fixed + self._flat_tables[places].sum(axis=-1))

    def along(self, site: int, genome: NDArray[np.int_]) -> NDArray[np.float64]:
        """Return the cost of each level of a site with the others as in a genome, ``(levels,)``.

        Up to a constant: differences are exact.
        """
        first, *others = self._joints_by_site[site]
        costs = first.along(site, genome)
        for joint in others:
            costs = costs + joint.along(site, genome)
        return costs

    @cached_property
    def _joints_by_site(self) -> tuple[tuple[Joint, ...], ...]:
        """The joints that each site is in."""
        joints_by_site: dict[int, list[Joint]] = {}
        for joint in self.joints:
            for site in joint.sites:
                joints_by_site.setdefault(site, []).append(joint)
        return tuple(tuple(joints_by_site[site]) for site in sorted(joints_by_site))

    @cached_property
    def _flat_tables(self) -> NDArray[np.float64]:
        """All tables, flattened, one after another."""
        return np.concatenate([joint.table.ravel() for joint in self.joints])

    @cached_property
    def _flat_layout(self) -> tuple[NDArray[np.int_], ...]:
        """Where a genome's costs lie in the flat tables.

        The sites joint by joint, the stride of a level of each, which of them is the first of
        each joint, and where its table begins.
        """
        shapes = [joint.table.shape for joint in self.joints]
        strides = [math.prod(shape[axis + 1 :]) for shape in shapes for axis in range(len(shape))]
        return (
            np.array([site for joint in self.joints for site in joint.sites]),
            np.array(strides),
            np.cumsum([0, *map(len, shapes[:-1])]),
            np.cumsum([0, *map(math.prod, shapes[:-1])]),
        )
