"""Verdicts in sentences, on differences whose t statistic is known by hand."""

from dataclasses import replace

import pytest

from evaluators.metric import Measurement
from planner.reports.sentences import _against, with_error
from planner.runs.records import Evaluation
from tests.problems.toy_search import evaluation


def scored(*kl_by_window: float, genome: tuple[int, ...] = (0,) * 8) -> Evaluation:
    mean = sum(kl_by_window) / len(kl_by_window)
    kl = Measurement(value=mean, standard_error=0.1, by_window=kl_by_window)
    return replace(evaluation(genome), holdout={"kl": kl})


@pytest.mark.parametrize(
    ("baseline", "sentence"),
    [
        # differences 1.0, 1.1, 0.9: t = 1.0 / (0.1 / √3) = 17, above 4.30 for 2 degrees of freedom
        ((2.0, 2.1, 1.9), "the search is significantly better (2.5 %), by 1.000 ± 0.058"),
        # differences 0, 0.3, 0.6: t = 0.3 / (0.3 / √3) = 1.7
        ((1.0, 1.3, 1.6), "the search is better, but not significantly, by 0.300 ± 0.173"),
        # differences -0.1, 0, -0.2
        ((0.9, 1.0, 0.8), "the search is NOT better: the difference is -0.100 ± 0.058"),
    ],
)
def test_a_verdict_follows_the_paired_t_test(baseline: tuple[float, ...], sentence: str) -> None:
    chosen = scored(1.0, 1.0, 1.0)
    other = scored(*baseline, genome=(1, 3) * 4)
    verdict = _against(chosen, other, "params", "the baseline")
    assert verdict.endswith(sentence)
    assert f"against {with_error(sum(baseline) / 3, 0.1)} at " in verdict
    assert " for the baseline: " in verdict


def test_a_baseline_that_is_the_plan_itself() -> None:
    chosen = scored(1.0, 1.0, 1.0)
    sentence = _against(chosen, chosen, "params", "the baseline")
    assert sentence == "it is the baseline: the search found none better"
