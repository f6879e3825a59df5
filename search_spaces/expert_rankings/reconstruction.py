"""What the output of a mixture loses as experts go one after another."""

from search_spaces.expert_rankings.routing import OneStatistic


class Reconstruction(OneStatistic):
    """An expert counts by the squared error of the mixture's output once it has gone in its turn.

    The turns are those of `search_spaces.expert_rankings.chain`, the best ones where the experts
    are few.

    References:
        Lu, Liu, Xu, Zhou, Huang, Zhang, Yan & Li, 2024, "Not All Experts are Equal: Efficient
        Expert Pruning and Skipping for Mixture-of-Experts Large Language Models" (the loss of a
        layer), whose best subset of one size is here the best chain of subsets of all sizes.
    """

    ordered_by = "expert_reconstruction"
