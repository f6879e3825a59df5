"""How little a layer turns the hidden states that pass through it."""

from search_spaces.statistics import StatisticName, Statistics


class BlockInfluence:
    """A layer or sub-block counts by ``1 −`` the mean cosine of what enters and what leaves it.

    References:
        Men et al., 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You
        Expect" (block influence), here of attentions and MLPs too.
    """

    statistics: frozenset[StatisticName] = frozenset({"similarity"})

    def importance(self, statistics: Statistics, part: str) -> float:
        return max(0.0, 1.0 - float(statistics["similarity", part]))
