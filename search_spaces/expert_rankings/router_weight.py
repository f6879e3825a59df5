"""How much weight the router gives an expert."""

from search_spaces.expert_rankings.routing import OneStatistic


class RouterWeight(OneStatistic):
    """An expert counts by the sum of the weights that the router gives it.

    A weight is 0 where another expert is chosen. The sum is taken over the tokens, here as a mean
    over all of them, which orders the same.

    References:
        Muzio, Sun & He, 2024, "SEER-MoE: Sparse Expert Efficiency through Regularization for
        Mixture-of-Experts" (the soft count).
    """

    ordered_by = "expert_weight"
