"""How surely the router selects an expert for the text at hand."""

from search_spaces.expert_rankings.routing import OneStatistic


class TCESS(OneStatistic):
    """An expert counts by its expected selection score on the text: a task's, say.

    The score of a token is the router's logit where the expert is chosen with confidence, and 0
    elsewhere. Confidence is its share of the softmax over the chosen experts, and must be an even
    share at least, where the paper leaves a threshold to be set. Logits are counted from the
    token's least one, for only their differences mean anything to a softmax, and a chosen expert
    with a negative logit would fall behind those that are never chosen.

    References:
        Pei, Zhang, Zhen, Yu, Liu, Pan, Yuan & Yu, 2025, "PreMoe: Lightening MoEs on Constrained
        Memory by Expert Pruning and Retrieval" (the task-conditioned expected selection score).
    """

    ordered_by = "expert_selection"
