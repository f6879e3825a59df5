"""Verdicts against values known by other routes: by hand, from books, and by simulation."""

import math

import numpy as np
import pytest

from planner.evaluate.verdicts import (
    compare_right_and_wrong,
    compare_values,
    detectable_share,
    holm,
    mcnemar_power,
)


def test_what_is_no_number_is_not_compared() -> None:
    with pytest.raises(AssertionError, match="no number"):
        compare_values(np.array([0.1, np.nan, 0.3]))


def answers(lost: int, won: int, both: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong answers of the dense and the pruned model, by how many of each pair."""
    counts = {(1, 0): lost, (0, 1): won, (1, 1): both, (0, 0): neither}
    pairs = np.array([pair for pair, count in counts.items() for _ in range(count)], dtype=bool)
    return pairs[:, 0], pairs[:, 1]


def is_shown(lost: int, won: int) -> bool:
    """Whether a loss is significant at 5 %, two-sided, by the tosses of a fair coin."""
    tail = sum(math.comb(lost + won, heads) for heads in range(won + 1))
    return lost > won and 2 * tail <= 0.05 * 2 ** (lost + won)


@pytest.mark.parametrize(
    ("lost", "won", "p_value", "verdict"),
    [
        # 2 · 0.5⁶, by hand: the fewest disagreements that show anything
        (6, 0, 2 / 64, "worse"),
        (0, 6, 2 / 64, "better"),
        (5, 0, 2 / 32, "not shown to be worse"),
        # 2 · (1 + 10 + 45) / 2¹⁰, the lower tail of ten tosses
        (8, 2, 2 * 56 / 1024, "not shown to be worse"),
        (3, 3, 1.0, "not shown to be worse"),
        (0, 0, 1.0, "not shown to be worse"),
    ],
)
def test_mcnemar_by_hand(lost: int, won: int, p_value: float, verdict: str) -> None:
    compared = compare_right_and_wrong(*answers(lost, won, both=40, neither=30))
    count = lost + won + 70
    assert compared.p_value == pytest.approx(p_value, rel=1e-12)
    assert compared.verdict == verdict
    assert (compared.lost, compared.won) == (lost, won)
    assert compared.gain == pytest.approx((won - lost) / count)
    # the variance of values −1, 0 and 1
    variance = ((lost + won) - (won - lost) ** 2 / count) / (count - 1)
    assert compared.standard_error == pytest.approx(math.sqrt(variance / count))


def test_mcnemar_as_in_a_textbook() -> None:
    """Agresti, Categorical Data Analysis, approval in two surveys: 150 against 86 changed."""
    compared = compare_right_and_wrong(*answers(lost=150, won=86, both=794, neither=570))
    # the asymptotic statistic there is 17.36, and p about 3e-5
    assert compared.p_value == pytest.approx(3.7e-5, rel=0.1)
    assert compared.verdict == "worse"


@pytest.mark.parametrize(("count", "disagreement"), [(2_000, 0.2), (10_000, 0.15), (5_000, 0.4)])
def test_the_detectable_loss_is_near_connors_formula(count: int, disagreement: float) -> None:
    """Connor's equation, solved for the difference; the exact test needs a little more."""
    by_chance, by_power = 1.959964, 0.841621
    connor = math.sqrt(disagreement) * (
        by_chance * math.sqrt(count) + by_power * math.sqrt(count - by_chance**2 + by_power**2)
    )
    connor /= count + by_power**2
    exact = detectable_share(disagreement, count)
    assert exact is not None
    assert connor < exact < 1.02 * connor


@pytest.mark.parametrize(("count", "disagreement"), [(100, 0.3), (200, 0.2), (400, 0.1)])
def test_the_detectable_loss_is_shown_four_times_out_of_five(
    count: int, disagreement: float
) -> None:
    loss = detectable_share(disagreement, count)
    assert loss is not None
    rng = np.random.default_rng(0)
    shares = [(disagreement + loss) / 2, (disagreement - loss) / 2, 0.4]
    shares.append(1 - sum(shares))
    tables = rng.multinomial(count, shares, size=2_000)
    shown = np.mean([is_shown(int(lost), int(won)) for lost, won, *_ in tables])
    # four standard errors of a share of 2,000
    assert shown == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 2_000))


def test_what_disagrees_too_rarely_is_detected_once_it_disagrees_more() -> None:
    """Six losses are the fewest that show: P(Binomial(200, share) ≥ 6) must be 0.8."""
    share = detectable_share(0.0, 200)
    assert share is not None
    fewer = sum(math.comb(200, k) * share**k * (1 - share) ** (200 - k) for k in range(6))
    assert 1 - fewer == pytest.approx(0.8, abs=1e-6)
    assert detectable_share(0.01, 200) == pytest.approx(share)


def test_five_samples_show_nothing_and_six_could() -> None:
    assert detectable_share(0.4, 5) is None
    assert detectable_share(1.0, 6) == pytest.approx(2 * 0.8 ** (1 / 6) - 1)  # all six lost


def test_equal_models_are_seldom_told_apart() -> None:
    assert 0 < mcnemar_power(0.0, 0.2, 500) <= 0.025
    assert mcnemar_power(0.0, 0.0, 500) == 0


def test_values_are_compared_as_by_hand() -> None:
    gains = np.array([-1.0, -2.0, -3.0, -2.0])  # mean −2, deviation √(2/3), error √(2/3)/2
    compared = compare_values(gains)
    assert compared.standard_error == pytest.approx(math.sqrt(2 / 3) / 2)
    # t = −4.899 with three degrees of freedom: F(t) = ½ + (x/(1+x²) + atan x)/π, x = t/√3
    x = 2 / (math.sqrt(2 / 3) / 2) / math.sqrt(3)
    tail = 0.5 - (x / (1 + x**2) + math.atan(x)) / math.pi
    assert compared.p_value == pytest.approx(2 * tail)
    assert compared.verdict == "worse"
    # quantiles of three degrees of freedom, from tables: 3.1824 at 97.5 %, 0.9785 at 80 %
    assert compared.detectable_loss == pytest.approx(
        (3.1824 + 0.9785) * compared.standard_error, rel=1e-4
    )


def test_values_that_do_not_differ_are_equal() -> None:
    compared = compare_values(np.zeros(5))
    assert (compared.p_value, compared.verdict) == (1.0, "not shown to be worse")
    assert compare_values(np.full(5, -0.5)).verdict == "worse"


def test_holm_steps_down() -> None:
    # Holm's own order: 4 · 0.005, 3 · 0.01, 2 · 0.03, and 0.04 raised to what stands before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
