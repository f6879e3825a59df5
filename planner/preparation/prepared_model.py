"""A model that is ready to be searched, and the domain that searchers see of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.data.windows import Calibration
from planner.preparation.dense_model import DenseModel
from planner.preparation.pruning_methods import PruningMethods
from planner.searchers.problem.cost import Cost, Joint
from planner.searchers.problem.domain import Domain
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.pruned_weights.weight_record import WeightRecord
from search_spaces.space.block_options import SITE_NAMES
from search_spaces.space.sites import Site
from search_spaces.space.sorted_model import SortedModel
from search_spaces.space.space import SearchSpace
from search_spaces.surgery.layer_builder import LayerBuilder


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """All that scoring needs."""

    dense: DenseModel
    sorted_model: SortedModel
    """The structure of `dense`, its units in the space's order."""
    space: SearchSpace
    calibration: Calibration
    prior: SensitivityPrior
    """Units in the space's order."""
    layer_builder: LayerBuilder
    """Builds the layers of candidates."""
    weight_record: WeightRecord
    """Which weights its candidates were scored with."""
    methods: PruningMethods
    """That its candidates' weights are made by."""
    folder: Path = Path()
    """Where its text, its order and its pruned weights are kept."""

    def smallest_costs(self) -> Mapping[str, float]:
        """Return the costs of the smallest plan; of bits, those that are fewest of all plans."""
        formats = [site.dimension == "format" for site in self.space.sites]
        narrow, whole = self.space.smallest(), np.where(formats, 0, self.space.top_levels)
        bits = min(self._fewest_bits(narrow), self._fewest_bits(whole))
        return {**self.costs_of(narrow), "bits": bits}

    def _fewest_bits(self, genome: NDArray[np.int_]) -> float:
        """Return the fewest bits a weight of all plans, looked for from a plan ``(sites,)`` on.

        Bits are a quotient of sums: each site goes where its bytes exceed the best rate so far by
        least, until no rate is better.

        References:
            Dinkelbach, 1967, "On Nonlinear Fractional Programming" (section 3).
        """
        sites = np.repeat(np.arange(len(genome)), self.space.top_levels + 1)
        levels = np.concatenate([np.arange(top + 1) for top in self.space.top_levels])
        fewest = np.inf
        while (bits := self.costs_of(genome)["bits"]) < fewest:
            fewest = bits
            steps = np.tile(genome, (len(sites), 1))
            steps[np.arange(len(sites)), sites] = levels
            costs = self._costs(steps)
            order = np.lexsort((8 * costs["size"] - fewest * costs["params"], sites))
            firsts = np.flatnonzero(np.diff(sites, prepend=-1))
            genome = levels[order[firsts]]
        return fewest

    def costs_of(self, genome: NDArray[np.int_]) -> Mapping[str, float]:
        """Return the costs of one genome ``(sites,)``."""
        return {name: float(cost[0]) for name, cost in self._costs(genome[None]).items()}

    def _costs(self, genomes: NDArray[np.int_]) -> Mapping[str, NDArray[np.float64]]:
        configurations = self.space.configurations(self.space.repaired(genomes))
        return self.dense.costs.costs(configurations)

    def make_domain(
        self,
        limits: Mapping[str, float | None],
        cost_floor: float,
        *,
        only_budget: bool = False,
    ) -> Domain:
        """Return the levels of all sites, their costs and sensitivities, as searchers read them.

        Args:
            limits: The costs to minimise, each with the share of the dense model's that the
                budget allows, or `None` if it is not limited. A search spreads over the first.
            cost_floor: Lowest share of the first cost that is worth looking at.
            only_budget: Whether only the best plan within the budget matters.
        """
        return Domain(
            top_levels=self.space.top_levels,
            costs=tuple(self._cost(name, limit) for name, limit in limits.items()),
            cost_floor=cost_floor,
            only_budget=only_budget,
            sensitivity_tables=tuple(map(self._sensitivities, self.space.sites)),
            kinds=tuple(map(self._kind, self.space.sites)),
            tilt=self._tilts(),
            shared=self._shared_by_groups(),
        )

    def _shared_by_groups(self) -> tuple[int, ...]:
        """Return the sites of several layers whose costs depend on those of sites of a layer."""
        counts = Counter(site for group in self.space.groups for site in group)
        return tuple(site for site in self.space.shared_sites if counts[site] > 1)

    def _sensitivities(self, site: Site) -> NDArray[np.float64]:
        """Return the prior of each level of a site, all others dense, ``(levels,)``."""
        total = np.zeros(len(site.levels))
        for target, configurations in site.configurations_by_target.items():
            table, levels = self.space.tables[target], list(configurations)
            if site.dimension == "units":
                pruned = np.append(np.cumsum(self.prior.units[target][::-1])[::-1], 0.0)
                of_target = pruned[table.units[levels]]
                if site.stands_in and self.prior.missed is not None:
                    # more is kept at the next level, and so no more is lost
                    left = of_target[1] * self.prior.missed[target]
                    of_target[1] = max(left, of_target[2])
                total += of_target
            else:
                total += self.prior.options[target][table.options_index[levels]]
        return total

    def _tilts(self) -> NDArray[np.float64]:
        """Return what sites keep beyond the common share; empty if the prior has no tilts."""
        if self.prior.tilts is None:
            return np.zeros(0)
        # a site's levels divide the range between its sparsest pattern and dense
        densities = (
            options.pattern.density
            for block_options in self.space.block_options
            for options in block_options
        )
        span = 1.0 - min(densities)
        tilts, sites = self.prior.tilts / (span or 1.0), self.space.sites
        return np.array(
            [tilts[list(s.targets)].mean() if s.dimension == "pattern" else 0.0 for s in sites]
        )

    def _kind(self, site: Site) -> str:
        if site.dimension != "units":
            return SITE_NAMES[site.dimension]
        kinds = {self.space.components[target].kind for target in site.targets}
        return "layer" if len(kinds) > 1 else kinds.pop()

    def _cost(self, name: str, limit: float | None) -> Cost:
        dense = self.dense.costs.dense()[name]
        joints = tuple(
            Joint(sites=sites, table=table / dense)
            for sites, table in self.dense.costs.joint_costs(name, self.space)
        )
        fixed = 1.0 - sum(float(joint.table.flat[-1]) for joint in joints)
        return Cost(joints=joints, fixed=fixed, limit=limit)
