"""A model made ready to be searched, and what a searcher is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.data.windows import Calibration
from planner.preparation.dense_model import DenseModel
from planner.searchers.problem.domain import Cost, Domain, Joint
from search_spaces.priors.sensitivity import SensitivityPrior
from search_spaces.space.configuration import options_in, unit_counts
from search_spaces.space.space import SearchSpace, Site
from search_spaces.surgery.apply import LayerBuilder


@dataclass(frozen=True, kw_only=True)
class PreparedModel:
    """All that scoring needs; the model's units are sorted."""

    dense: DenseModel
    space: SearchSpace
    calibration: Calibration
    prior: SensitivityPrior
    """What cuts are guessed to do, units in the space's order."""
    layer_builder: LayerBuilder
    """Gives layers the forms that candidates choose."""

    def smallest(self) -> Mapping[str, float]:
        """Give the costs of the smallest plan."""
        return self.costs_of(self.space.smallest())

    def costs_of(self, genome: NDArray[np.int_]) -> Mapping[str, float]:
        """Give the costs of one genome ``(sites,)``."""
        configurations = self.space.configurations(self.space.repaired(genome[None]))
        return {
            name: float(cost[0]) for name, cost in self.dense.costs.costs(configurations).items()
        }

    def domain(
        self,
        limits: Mapping[str, float | None],
        cost_floor: float,
        *,
        only_budget: bool = False,
    ) -> Domain:
        """Tell a searcher the levels and what they cost.

        Args:
            limits: The costs to make small, each with the share of the dense model's that the
                budget allows, if it does limit it. A search spreads over the first.
            cost_floor: Lowest share of the first cost that is worth looking at.
            only_budget: Whether the best plan within the budget is all that is wanted.
        """
        return Domain(
            top_levels=self.space.top_levels,
            costs=tuple(self._cost(name, limit) for name, limit in limits.items()),
            cost_floor=cost_floor,
            only_budget=only_budget,
            sensitivity_tables=tuple(map(self._harms, self.space.sites)),
            kinds=tuple(map(self._kind, self.space.sites)),
            tilt=self._tilt(),
        )

    def _harms(self, site: Site) -> NDArray[np.float64]:
        """Give what each level of a site is guessed to do, all else dense, ``(levels,)``."""
        widths = unit_counts(self.space.components)
        total = np.zeros(len(site.levels))
        for target, configurations in site.configurations_by_target.items():
            if site.kind != "units":
                total += self.prior.block_options[target][
                    options_in(np.array(configurations), widths[target])
                ]
            else:
                gone = np.append(np.cumsum(self.prior.units[target][::-1])[::-1], 0.0)
                total += gone[list(configurations)]
        return total

    def _tilt(self) -> NDArray[np.float64]:
        """Give what sites keep beyond the common share, where the guess says so; else none."""
        if self.prior.tilts is None:
            return np.zeros(0)
        # a site's levels share out what is between its sparsest pattern and all
        known = (
            options for block_options in self.space.block_options for options in block_options
        )
        span = 1.0 - min(options.pattern.density for options in known)
        tilts, sites = self.prior.tilts / (span or 1.0), self.space.sites
        return np.array([tilts[s.targets[0]] if s.kind == "pattern" else 0.0 for s in sites])

    def _kind(self, site: Site) -> str:
        if site.kind != "units":
            return "weights" if site.kind == "pattern" else site.kind
        if len(site.targets) > 1:
            return "layer"
        return self.space.components[site.targets[0]].kind

    def _cost(self, name: str, limit: float | None) -> Cost:
        dense = self.dense.costs.dense()[name]
        joints = tuple(
            Joint(sites=sites, table=table / dense)
            for sites, table in self.dense.costs.joint_costs(name, self.space)
        )
        fixed = 1.0 - sum(float(joint.table.flat[-1]) for joint in joints)
        return Cost(joints=joints, fixed=fixed, limit=limit)
