"""The growth of fronts."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from planner.figures.front_points import FrontPoints
from planner.figures.hypervolume_figure import (
    MOST_MOMENTS,
    hypervolume_figure,
    hypervolume_growth,
)


def timed(points: FrontPoints, minutes: list[float]) -> FrontPoints:
    moments = pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(minutes, unit="min")
    return replace(points, frame=points.frame.assign(created_at=moments))


def test_the_volume_is_that_of_the_boxes_below_the_reference(points: FrontPoints) -> None:
    # whole, good, small, dominated; then two that do not count
    growth = hypervolume_growth(timed(points, [0, 2, 5, 6, 7, 8]), reference=2.0)
    cheap = 0.2 + 0.8 / 3
    good = 0.4 * (2 - 0.14666667)
    small = good + (0.6 - cheap) * (2 - 1.03555556)
    assert growth.volumes.tolist() == pytest.approx([0, good / 2, small / 2, small / 2])
    assert growth.minutes.tolist() == [0, 2, 5, 6]
    assert growth.counts.tolist() == [1, 2, 3, 4]


def test_many_plans_take_few_moments(points: FrontPoints) -> None:
    frame = points.frame.iloc[[0, 1, 2] * 1000].reset_index(drop=True)
    many = timed(replace(points, frame=frame), [*np.arange(3000.0)])
    growth = hypervolume_growth(many, reference=2.0)
    assert len(growth.volumes) == MOST_MOMENTS
    assert growth.volumes[-1] == pytest.approx(
        hypervolume_growth(points, reference=2.0).volumes[-1]
    )


def test_runs_share_a_reference(points: FrontPoints) -> None:
    figure = hypervolume_figure([points, replace(points, name="<b>")], "dark")
    assert [trace.name for trace in figure.data] == ["toy", "&lt;b&gt;"]
    assert "to KL 1.14 at the dense model's" in figure.layout.title.text
    assert [*figure.data[0].y] == [*figure.data[1].y]


def test_without_plans_nothing_grows(points: FrontPoints) -> None:
    empty = replace(points, frame=points.frame.iloc[:0])
    (trace,) = hypervolume_figure([empty]).data
    assert not len(trace.x)
