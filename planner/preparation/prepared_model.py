"""A model made ready to be searched, and what a searcher is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.data.windows import Calibration
from planner.preparation.dense_model import DenseModel
from planner.searchers.problem.domain import Cost, Domain, Joint
from search_spaces.priors.sensitivity import Guess
from search_spaces.space.configuration import unit_counts, variants_in
from search_spaces.space.space import SearchSpace, Site
from search_spaces.surgery.apply import Shaper


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """All that scoring needs; the model's units are sorted."""

    dense: DenseModel
    space: SearchSpace
    calibration: Calibration
    guess: Guess
    """What cuts are guessed to do, units in the space's order."""
    shaper: Shaper
    """Gives layers the forms that candidates choose."""

    def smallest(self) -> Mapping[str, float]:
        """Give the costs of the smallest plan."""
        return self.costs_of(self.space.smallest())

    def costs_of(self, genome: NDArray[np.int_]) -> Mapping[str, float]:
        """Give the costs of one genome ``(sites,)``."""
        forms = self.space.forms(self.space.mended(genome[None]))
        return {name: float(cost[0]) for name, cost in self.dense.costs.costs(forms).items()}

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
            harm_tables=tuple(map(self._harms, self.space.sites)),
            kinds=tuple(map(self._kind, self.space.sites)),
            tilt=self._tilt(),
        )

    def _harms(self, site: Site) -> NDArray[np.float64]:
        """Give what each level of a site is guessed to do, all else dense, ``(levels,)``."""
        widths = unit_counts(self.space.sub_blocks)
        total = np.zeros(len(site.levels))
        for target, forms in site.forms_by_target.items():
            if site.dial != "units":
                total += self.guess.variants[target][variants_in(np.array(forms), widths[target])]
            else:
                gone = np.append(np.cumsum(self.guess.units[target][::-1])[::-1], 0.0)
                total += gone[list(forms)]
        return total

    def _tilt(self) -> NDArray[np.float64]:
        """Give what sites keep beyond the common share, where the guess says so; else none."""
        if self.guess.tilts is None:
            return np.zeros(0)
        # a site's levels share out what is between its sparsest pattern and all
        known = (variant for variants in self.space.variants for variant in variants)
        span = 1.0 - min(variant.pattern.density for variant in known)
        tilts, sites = self.guess.tilts / (span or 1.0), self.space.sites
        return np.array([tilts[s.targets[0]] if s.dial == "pattern" else 0.0 for s in sites])

    def _kind(self, site: Site) -> str:
        if site.dial != "units":
            return "weights" if site.dial == "pattern" else site.dial
        if len(site.targets) > 1:
            return "layer"
        return self.space.sub_blocks[site.targets[0]].kind

    def _cost(self, name: str, limit: float | None) -> Cost:
        dense = self.dense.costs.dense()[name]
        joints = tuple(
            Joint(sites=sites, table=table / dense)
            for sites, table in self.dense.costs.joint_costs(name, self.space)
        )
        fixed = 1.0 - sum(float(joint.table.flat[-1]) for joint in joints)
        return Cost(joints=joints, fixed=fixed, limit=limit)
