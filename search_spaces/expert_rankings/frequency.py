"""How often an expert is chosen."""

from search_spaces.expert_rankings.routing import OneStatistic


class Frequency(OneStatistic):
    """An expert counts by the share of the tokens that are sent to it.

    References:
        Muzio, Sun & He, 2024, "SEER-MoE: Sparse Expert Efficiency through Regularization for
        Mixture-of-Experts" (the actual count).
    """

    ordered_by = "expert_frequency"
