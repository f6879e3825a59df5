"""Importance of experts that is a statistic of the calibration pass."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from search_spaces.importance import MeasuredImportanceName
from search_spaces.importance.experts.unrouted import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


@dataclass(frozen=True, kw_only=True)
class MeasuredImportance:
    """An expert counts by one statistic of it, ``(experts,)``, or by ``s · exp(t)`` of two."""

    statistic: StatisticName
    exponent: StatisticName | None = None

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What it reads, and what tells unused experts apart."""
        return ROUTED | {self.statistic} | ({self.exponent} if self.exponent else set())

    def importance(
        self,
        component: Component,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        importance = measured(component, statistics, self.statistic)
        if self.exponent is not None:
            importance = importance * measured(component, statistics, self.exponent).exp()
        return unrouted_last(component, importance, statistics)


MEASURED: Mapping[MeasuredImportanceName, MeasuredImportance] = {
    # the share of the tokens that are sent to it: Muzio, Sun & He, 2024, "SEER-MoE: Sparse Expert
    # Efficiency through Regularization for Mixture-of-Experts" (the actual count)
    "frequency": MeasuredImportance(statistic="expert_frequency"),
    # the sum of the weights that the router gives it, 0 where another expert is chosen; a mean
    # over all tokens orders the same: Muzio, Sun & He, 2024 (the soft count)
    "router_weight": MeasuredImportance(statistic="expert_weight"),
    # the mean, over the tokens sent to it, of its routing weight times the norm of its output, so
    # that an expert that is seldom chosen and then decides counts as much as any: Lasby,
    # Lazarevich, Sinnadurai, Lie, Ioannou & Thangarasa, 2025, "REAP the Experts: Why Pruning
    # Prevails for One-Shot MoE Compression" (equation 9)
    "reap": MeasuredImportance(statistic="expert_output"),
    # the squared error of the mixture's output once it is pruned in its turn; the turns are those
    # of `nested_subsets`: Lu, Liu, Xu, Zhou, Huang, Zhang, Yan & Li, 2024, "Not All Experts are
    # Equal: Efficient Expert Pruning and Skipping for Mixture-of-Experts Large Language Models"
    # (the loss of a layer), whose best subset of one size is here the best chain of all sizes
    "reconstruction": MeasuredImportance(statistic="expert_reconstruction"),
    # its expected selection score on the text, of a task, say: the router's logit where the
    # expert is chosen with confidence, 0 elsewhere. Confidence is its share of the softmax over
    # the chosen experts, and must be an even share at least, where the paper leaves a threshold
    # open; logits are counted from the token's least one, for only differences mean anything to a
    # softmax: Pei, Zhang, Zhen, Yu, Liu, Pan, Yuan & Yu, 2025, "PreMoe: Lightening MoEs on
    # Constrained Memory by Expert Pruning and Retrieval" (task-conditioned expected selection)
    "tcess": MeasuredImportance(statistic="expert_selection"),
    # its activity, the share of the tokens for which it has the largest weight, times exp of its
    # confidence, the mean of that weight; for a language, if the text is of one: Koishekenov,
    # Berard & Nikoulina, 2023, "Memory-efficient NLLB-200: Language-specific Expert Pruning of a
    # Massively Multilingual Machine Translation Model" (the importance metric)
    "language": MeasuredImportance(statistic="expert_first", exponent="expert_confidence"),
    # the acceptance that is lost where it is pruned alone: were the model without it to draft
    # tokens for the dense one, speculative decoding would accept the share Σ_v min(p(v), q(v)) of
    # them in the mean: Liu, Tang, Sun, Shen & Yuan, 2026, "EvoESAP: Non-Uniform Expert Pruning for
    # Sparse MoE" (the expected speculative acceptance proxy), which scores whole models with it
    "acceptance": MeasuredImportance(statistic="expert_acceptance"),
}
