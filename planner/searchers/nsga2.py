"""NSGA-II through pymoo."""

from pymoo.algorithms.moo import nsga2
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from planner.searchers.domain import Domain
from planner.searchers.pymoo_search import PymooSearch


class NSGA2(PymooSearch):
    """Non-dominated sorting genetic algorithm, with moves that know the cost of a level.

    References:
        Deb, Pratap, Agarwal, Meyarivan (2002), doi:10.1109/4235.996017.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        super().__init__(
            nsga2.NSGA2,
            domain,
            population,
            seed,
            selection=TournamentSelection(func_comp=nsga2.binary_tournament),
            survival=RankAndCrowding(),
        )
