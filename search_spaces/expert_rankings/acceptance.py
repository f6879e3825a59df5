"""What the dense model would not accept of the model without an expert."""

from search_spaces.expert_rankings.routing import OneStatistic


class Acceptance(OneStatistic):
    """An expert counts by the acceptance that is lost where it goes alone.

    Were the model without it to draft tokens for the dense one, speculative decoding would accept
    the share ``E[Σ_v min(p(v), q(v))]`` of them. What is missing to 1 is the expert's importance.

    References:
        Liu, Tang, Sun, Shen & Yuan, 2026, "EvoESAP: Non-Uniform Expert Pruning for Sparse MoE"
        (the expected speculative acceptance proxy), which scores whole models with it.
    """

    ordered_by = "expert_acceptance"
