"""What the text's NLL rises by where a layer is removed."""

from search_spaces.statistics import StatisticName, Statistics


class Removal:
    """A layer or sub-block counts by the rise of NLL without it, and by 0 where it falls.

    References:
        Kim et al., 2024, "Shortened LLaMA: Depth Pruning for Large Language Models with Comparison
        of Retraining Methods" (the perplexity criterion, whose logarithm this is).
    """

    statistics: frozenset[StatisticName] = frozenset({"removal_nll"})

    def importance(self, statistics: Statistics, part: str) -> float:
        return max(0.0, float(statistics["removal_nll", part]))
