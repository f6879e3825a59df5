"""What bench-bytes counts as a victory, and what it does not."""

import numpy as np

from benchmarks.bytes import JOINT, LEAST, SEARCHED, SINGLE, SIZES, SMALLEST, goals
from evaluators.metric import Measurement
from evaluators.scoring.score import estimate

WINDOWS = np.linspace(0.9, 1.1, 8)
REACHED = [size for size in SIZES if size >= LEAST]


def measured(kl: float) -> Measurement:
    """A KL of windows that are more or less hard."""
    return estimate(kl * WINDOWS)


def values(kls: dict[tuple[str, float], Measurement]) -> list[float]:
    """The values of the three goals that compare ways."""
    return [goal.value for goal in goals(kls, {}, 0)[:3]]


def test_where_formats_have_no_plan_both_must_beat_their_smallest() -> None:
    kls = {(SEARCHED, size): measured(1.0) for size in REACHED}
    for kl, won in ((0.5, len(SMALLEST)), (1.0, 0), (2.0, 0)):
        below = {(JOINT, size): measured(kl) for size in SMALLEST}
        assert values(kls | below) == [0, won, 0]


def test_a_way_without_a_plan_neither_wins_nor_loses() -> None:
    assert values({(JOINT, size): measured(0.1) for size in SIZES}) == [0, 0, 0]
    assert values({(SEARCHED, size): measured(0.1) for size in REACHED}) == [0, 0, 0]


def test_sizes_are_counted_at_which_one_is_significantly_better() -> None:
    kls = {(SEARCHED, size): measured(1.0) for size in REACHED}
    kls |= {(SINGLE, size): measured(2.0) for size in REACHED[1:]}
    kls |= {(JOINT, size): measured(3.0) for size in REACHED[:1]}
    assert values(kls) == [len(REACHED) - 1, 0, 1]
