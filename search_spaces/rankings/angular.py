"""By what angle a layer turns the hidden states that pass through it."""

from search_spaces.statistics import StatisticName, Statistics


class Angular:
    """A layer or sub-block counts by the mean angle between what enters and leaves it, over π.

    References:
        Gromov, Tirumala, Shapourian, Glorioso & Roberts, 2024, "The Unreasonable Ineffectiveness
        of the Deeper Layers" (angular distance), of one layer and over all tokens;
        there of several in a row, and of the last token.
    """

    statistics: frozenset[StatisticName] = frozenset({"angle"})

    def importance(self, statistics: Statistics, part: str) -> float:
        return max(0.0, float(statistics["angle", part]))
