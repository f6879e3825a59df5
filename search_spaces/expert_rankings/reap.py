"""What an expert adds, as loud as the router lets it."""

from search_spaces.expert_rankings.routing import OneStatistic


class REAP(OneStatistic):
    """An expert counts by what it adds to the output for the tokens that are sent to it.

    That is the mean over those tokens of the weight that the router gives it times the norm of
    what it gives: an expert that is seldom chosen and then decides counts as much as any.

    References:
        Lasby, Lazarevich, Sinnadurai, Lie, Ioannou & Thangarasa, 2025, "REAP the Experts: Why
        Pruning Prevails for One-Shot MoE Compression" (equation 9).
    """

    ordered_by = "expert_output"
