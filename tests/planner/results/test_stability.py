import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from evaluators.metric import Measurement
from planner.reports.sentences import stability_sentences
from planner.reports.tables import stability_table
from planner.results.stability import Stability, stability
from planner.runs.records import Evaluation
from search_spaces.errors import RunError
from tests.problems.toy_search import evaluation, score_of

DENSE = replace(
    evaluation((3,) * 8), score=score_of({"kl": (0.0, 0.0)}), fresh={"kl": Measurement(value=0.0)}
)


def plan(name: str, kl: float, fresh: float, error: float = 0.01) -> Evaluation:
    return replace(
        evaluation((0,) * 8),
        plan_id=name,
        score=score_of({"kl": (kl, error)}),
        fresh={"kl": Measurement(value=fresh, standard_error=error)},
    )


def of(*values: tuple[float, float], error: float = 0.01) -> Stability:
    return stability([plan(f"p{n}", *pair, error) for n, pair in enumerate(values)])


def column(found: Stability, name: str) -> list[object]:
    return list(found.ranks[name])


def test_ranks_on_both_draws_and_the_range_that_errors_allow() -> None:
    # 0.10, 0.13 and 0.16 lie within 4 s.e. of their neighbours, 0.50 and 0.60 of nothing
    found = of((0.60, 0.7), (0.50, 0.9), (0.16, 0.2), (0.13, 0.1), (0.10, 0.3))
    assert column(found, "rank") == [5, 4, 3, 2, 1]
    assert column(found, "fresh_rank") == [4, 5, 2, 1, 3]
    assert column(found, "rank_least") == [5, 4, 2, 1, 1]
    assert column(found, "rank_most") == [5, 4, 3, 3, 2]
    assert column(found, "moved") == [True, True, False, False, True]
    # 1 − 6 Σ d² / n (n² − 1)
    assert found.spearman == pytest.approx(1 - 6 * (1 + 1 + 1 + 1 + 4) / (5 * 24))


def test_errors_so_large_that_any_order_is_allowed() -> None:
    found = of((0.3, 0.1), (0.2, 0.2), (0.1, 0.3), error=1.0)
    assert column(found, "rank_least") == [1, 1, 1]
    assert column(found, "rank_most") == [3, 3, 3]
    assert not any(column(found, "moved"))
    assert found.spearman == pytest.approx(-1)


def test_the_same_scores_move_nothing() -> None:
    found = of((0.3, 0.3), (0.2, 0.2), (0.1, 0.1), error=0.0)
    assert column(found, "rank_least") == column(found, "rank_most") == [3, 2, 1]
    assert not any(column(found, "moved"))
    assert found.spearman == pytest.approx(1)
    assert found.optimism == Measurement(value=0.0, standard_error=0.0)


def test_equals_share_their_mean_rank() -> None:
    found = of((0.3, 0.2), (0.2, 0.2), (0.2, 0.1), error=0.0)
    assert column(found, "rank") == [3, 1.5, 1.5]
    assert column(found, "fresh_rank") == [2.5, 2.5, 1]
    # equals may stand on each other's places
    assert column(found, "rank_least") == [3, 1, 1]
    assert column(found, "rank_most") == [3, 2, 2]
    assert column(found, "moved") == [True, True, False]


def test_spearman_equals_that_of_pandas() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        pairs = rng.integers(1, 8, size=(12, 2)) / 10  # with many equals
        found = of(*((searched, fresh) for searched, fresh in pairs.tolist()))
        theirs = pd.DataFrame(pairs).corr(method="spearman").to_numpy()[0, 1]
        assert found.spearman == pytest.approx(theirs)


def test_optimism_is_the_mean_difference_with_an_error_that_shared_windows_cannot_exceed() -> None:
    found = stability(
        [plan("a", 0.1, 0.2, 0.03), plan("b", 0.2, 0.4, 0.06), plan("c", 0.4, 0.4, 0)]
    )
    assert found.optimism.value == pytest.approx(-0.1)
    assert found.optimism.standard_error == pytest.approx(math.hypot(0.03, 0.03))
    # plans whose scores rise and fall together, as on one set of windows: the bound is reached
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(20_000, 2, 1))  # (repetitions, draws, 1)
    errors = np.array([0.03, 0.06, 0.0])
    searched, fresh = np.moveaxis(shared * errors, 1, 0)
    spread = (fresh - searched).mean(axis=1).std()
    assert found.optimism.standard_error == pytest.approx(spread, rel=0.02)


def test_the_dense_model_takes_no_part() -> None:
    plans = [plan("a", 0.3, 0.2), plan("b", 0.2, 0.3), plan("c", 0.1, 0.1)]
    found, without = stability([DENSE, *plans]), stability(plans)
    assert column(found, "plan_id") == ["a", "b", "c"]
    assert found.spearman == without.spearman
    assert found.optimism == without.optimism


UNSCORED = replace(plan("d", 0.4, 0.4), fresh={})
BROKEN = plan("d", 0.4, math.nan)


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        ([], "got 0 of 0"),
        ([DENSE, plan("a", 0.1, 0.1), plan("b", 0.2, 0.2)], "got 2 of 2"),
        ([plan("a", 0.1, 0.1), plan("b", 0.2, 0.2), plan("c", 0.3, 0.3), UNSCORED], "got 3 of 4"),
        ([plan("a", 0.1, 0.1), plan("b", 0.2, 0.2), plan("c", 0.3, 0.3), BROKEN], "got 3 of 4"),
    ],
)
def test_too_few_plans_or_scores_are_refused(plans: Sequence[Evaluation], said: str) -> None:
    with pytest.raises(RunError, match=said) as caught:
        stability(plans)
    assert str(caught.value).startswith("stability needs 3 plans or more")


def test_the_table_points_at_what_moved() -> None:
    found = of((0.60, 0.7), (0.50, 0.9), (0.1, 0.3))
    assert [" ".join(line.split()) for line in stability_table(found).plain.splitlines()] == [
        "plan KL search KL fresh rank may be fresh rank",
        "moved p0 0.600 ± 0.010 0.700 ± 0.010 3 3–3 2",
        "moved p1 0.500 ± 0.010 0.900 ± 0.010 2 2–2 3",
        "p2 0.100 ± 0.010 0.300 ± 0.010 1 1–1 1",
    ]


def test_sentences_say_what_moved_and_whether_the_search_is_optimistic() -> None:
    worse = stability_sentences(of((0.60, 0.7), (0.50, 0.9), (0.1, 0.3)))
    assert "Spearman 0.500" in worse
    assert "2 of 3 plans moved" in worse
    assert "higher by 0.233 ± 0.014 nats" in worse
    assert "is optimistic, so" in worse
    same = stability_sentences(of((0.60, 0.58), (0.50, 0.52), (0.1, 0.07)))
    assert "Spearman 1.000" in same
    assert "none of 3 plans moved" in same
    assert "lower by 0.010 ± 0.014 nats" in same
    assert "is not significantly optimistic" in same
