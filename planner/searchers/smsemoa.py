"""SMS-EMOA through pymoo: for many objectives, and it repeats under a seed."""

from pymoo.algorithms.moo import sms
from pymoo.operators.selection.tournament import TournamentSelection

from planner.searchers.domain import Domain
from planner.searchers.pymoo_search import PymooSearch

# how far beyond the worst of the front the reference point lies, in spans of the front: its ends
# then weigh more than any plan between them, and stay
_REFERENCE_BEYOND = 10.0


class SMSEMOA(PymooSearch):
    """S-metric selection: those are kept that the dominated hypervolume would lose most without.

    As published, but for whole populations of children at a time, as plans are raced together.

    References:
        Beume, Naujoks, Emmerich (2007), doi:10.1016/j.ejor.2006.08.008.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        super().__init__(
            sms.SMSEMOA,
            domain,
            population,
            seed,
            selection=TournamentSelection(func_comp=sms.cv_and_dom_tournament),
            survival=sms.LeastHypervolumeContributionSurvival(eps=_REFERENCE_BEYOND),
        )
