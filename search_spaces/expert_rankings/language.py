"""How often an expert comes first, and how surely."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.expert_rankings.routing import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class LanguageSpecific:
    """An expert counts by ``activity · exp(confidence)``: for a language, if the text is of one.

    Its activity is the share of the tokens for which it has the largest weight, its confidence
    the mean of that weight.

    References:
        Koishekenov, Berard & Nikoulina, 2023, "Memory-efficient NLLB-200: Language-specific Expert
        Pruning of a Massively Multilingual Machine Translation Model" (the importance metric).
    """

    statistics: frozenset[StatisticName] = ROUTED | {"expert_first", "expert_confidence"}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        activity = measured(block, statistics, "expert_first")
        confidence = measured(block, statistics, "expert_confidence")
        return unrouted_last(block, activity * confidence.exp(), statistics)
