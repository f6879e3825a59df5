"""Importance of whole layers, attentions and MLPs: how much they change the hidden states."""

from search_spaces.statistics import StatisticName, Statistics


class BlockInfluence:
    """A layer or component counts by ``1 −`` the mean cosine of its input and output.

    References:
        Men et al., 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You
        Expect" (block influence), here of attentions and MLPs too.
    """

    statistics: frozenset[StatisticName] = frozenset({"similarity"})

    def importance(self, statistics: Statistics, part: str) -> float:
        return max(0.0, 1.0 - float(statistics["similarity", part]))


class Angular:
    """A layer or component counts by the mean angle between its input and output, over π.

    References:
        Gromov, Tirumala, Shapourian, Glorioso & Roberts, 2024, "The Unreasonable Ineffectiveness
        of the Deeper Layers" (angular distance), of one layer and over all tokens;
        there of several in a row, and of the last token.
    """

    statistics: frozenset[StatisticName] = frozenset({"angle"})

    def importance(self, statistics: Statistics, part: str) -> float:
        return max(0.0, float(statistics["angle", part]))


class Removal:
    """A layer or component counts by the rise of NLL without it, and by 0 where it falls.

    References:
        Kim et al., 2024, "Shortened LLaMA: Depth Pruning for Large Language Models with Comparison
        of Retraining Methods" (the perplexity criterion, whose logarithm this is).
    """

    statistics: frozenset[StatisticName] = frozenset({"removal_nll"})

    def importance(self, statistics: Statistics, part: str) -> float:
        return max(0.0, float(statistics["removal_nll", part]))
