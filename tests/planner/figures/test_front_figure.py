"""The scatter plot of fronts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from planner.figures.figure_axes import Axis, axis_names
from planner.figures.front_figure import front_figure
from planner.figures.front_points import FrontPoints
from planner.figures.front_view import FrontView
from planner.settings.budget import Budget
from search_spaces.errors import SettingsError
from tests.problems.toy_run import FRONT, WASTEFUL
from tests.problems.toy_search import DENSE, evaluation

VIEW = FrontView(x="params_x")


def traces(figure: go.Figure) -> dict[str, Any]:
    """Those that legends show, by their names there."""
    return {trace.name: trace for trace in figure.data if trace.showlegend is not False}


def shapes(figure: go.Figure) -> dict[str, Any]:
    return {shape.name: shape for shape in figure.layout.shapes}


def test_the_front_is_drawn_with_its_errors_on_every_text(points: FrontPoints) -> None:
    found = traces(front_figure([points], VIEW))
    searched = found["front, search text ± 2 s.e."]
    assert [*searched.x] == pytest.approx([0.2 + 0.8 / 3, 0.6, 1.0])
    assert [*searched.error_y.array] == pytest.approx([0.02, 0.02, 0.02])
    assert [*searched.error_y.arrayminus] == pytest.approx([0.02, 0.02, 0.02])
    assert [list(each) for each in searched.customdata] == [["toy", p] for p in FRONT[::-1]]
    assert [*found["front, held-out text ± 2 s.e."].y] == [1.0, 0.3, 0.3]
    assert [*found["front, fresh text ± 2 s.e."].y] == [0.9, 0.2, 0.2]


def test_each_front_has_a_band_of_two_errors(points: FrontPoints) -> None:
    figure = front_figure([points], replace(VIEW, splits=("holdout",)))
    (band,) = [trace for trace in figure.data if trace.fill == "toself"]
    assert [*band.y] == pytest.approx([1.04, 0.34, 0.34, 0.26, 0.26, 0.96])


def test_dominated_plans_stand_back_or_away(points: FrontPoints) -> None:
    shown = traces(front_figure([points], VIEW))
    assert [list(each) for each in shown["other plans"].customdata] == [
        ["toy", evaluation(WASTEFUL).plan_id]
    ]
    assert shown["other plans"].marker.opacity < 1
    hidden = traces(front_figure([points], replace(VIEW, shows_dominated=False)))
    assert {*shown} - {*hidden} == {"other plans", "scored in part"}


def test_baselines_and_the_dense_model_have_marks_of_their_own(points: FrontPoints) -> None:
    found = traces(front_figure([points], VIEW))
    marks = [
        found[name].marker.symbol
        for name in ("front, search text ± 2 s.e.", "uniform baseline", "dense model")
    ]
    assert len({*marks}) == len(marks)
    assert ([*found["dense model"].x], [*found["dense model"].y]) == ([1.0], [0.0])
    assert [*found["uniform baseline"].y] == pytest.approx([0.8])


def test_a_budget_is_shaded_as_far_as_it_limits_the_axes(points: FrontPoints) -> None:
    def shape(budget: str, view: FrontView = VIEW) -> Any:
        figure = front_figure([points], replace(view, budget=Budget.parse(budget)))
        return shapes(figure).get("within the budget")

    both = shape("params<=700,kl<=0.5,size<=1500")
    assert (both.x0, both.x1, both.y0, both.y1) == (0.0, 0.7, 0.0, 0.5)
    one = shape("params<=0.7x", FrontView(x="params"))
    assert (one.x1, one.yref, one.y0, one.y1) == (0.7, "y domain", 0.0, 1.0)  # in K
    assert shape("size<=1500") is None
    larger = replace(points, name="larger", dense={k: 2 * v for k, v in points.dense.items()})
    frame = points.frame.assign(latency=1.0, latency_x=1.0)
    timed = replace(points, name="timed", frame=frame, dense={**points.dense, "latency": 1.0})
    budget = Budget.parse("params<=0.7x")
    for runs, name in (
        ([points], "within the budget"),
        ([points, timed], "within the budget"),
        ([points, larger], f"within the budget, for {points.name}"),
    ):
        assert name in shapes(front_figure(runs, replace(VIEW, budget=budget)))
        assert name not in shapes(front_figure(runs, VIEW))
    unmeasured = replace(VIEW, x="latency", budget=Budget.parse("latency<=0.5x"))
    assert "within the budget" not in shapes(front_figure([points, timed], unmeasured))


def test_the_best_plan_and_those_selected_have_marks(points: FrontPoints) -> None:
    name = points.name
    view = replace(VIEW, best=(name, FRONT[1]), selected=((name, FRONT[0]), (name, FRONT[2])))
    # runs of one model share ids
    for runs in ([points], [points, replace(points, name="other", knee=None)]):
        marks = front_figure(runs, view).layout.shapes
        heights = {
            name: sorted(mark.yanchor for mark in marks if mark.name == name)
            for name in ("best within the budget", "selected", "knee")
        }
        assert heights["best within the budget"] == pytest.approx([0.1466667])
        assert heights["selected"] == pytest.approx([0.0, 1.0355556])
        assert len(heights["knee"]) == 1


def test_the_legend_names_each_kind_of_mark_once(points: FrontPoints) -> None:
    name = points.name
    view = replace(VIEW, best=(name, FRONT[1]), selected=((name, FRONT[0]), (name, FRONT[2])))
    marks = front_figure([points], view).layout.shapes
    named = [mark.name for mark in marks if mark.showlegend]
    assert named == ["knee", "best within the budget", "selected"]
    assert len(marks) == 4


def test_runs_differ_by_mark_and_not_by_colour_alone(points: FrontPoints) -> None:
    runs = [points, replace(points, name="<i>other")]
    figure = front_figure(runs, VIEW)
    found = traces(figure)
    ours, theirs = (
        found[f"{name}: front, search text ± 2 s.e."] for name in ("toy", "&lt;i&gt;other")
    )
    assert ours.marker.symbol != theirs.marker.symbol
    assert ours.line.color != theirs.line.color
    assert theirs.customdata[0][0] == "<i>other"


def test_zoom_and_hidden_series_survive_an_update_of_the_same_axes(points: FrontPoints) -> None:
    first = front_figure([points], VIEW).layout
    again = front_figure([points], replace(VIEW, budget=Budget.parse("kl<=1"))).layout
    other = front_figure([points], replace(VIEW, x="size")).layout
    assert first.uirevision == again.uirevision == other.uirevision
    assert first.xaxis.uirevision == again.xaxis.uirevision != other.xaxis.uirevision
    assert first.yaxis.uirevision == other.yaxis.uirevision


def test_any_metric_is_an_axis_or_a_colour(points: FrontPoints) -> None:
    names = axis_names([points])
    assert names == [
        *("params_x", "size_x", "bits_x", "macs_x", "kv_x"),
        *("params", "size", "bits", "macs", "kv"),
        *("kl", "perplexity", "agreement"),
    ]
    for x, y in zip(names, [*names[1:], names[0]], strict=True):
        assert front_figure([points], FrontView(x=x, y=y, colour=y)).data
    coloured = traces(front_figure([points], replace(VIEW, colour="size")))
    assert [*coloured["front, search text ± 2 s.e."].marker.color] == pytest.approx(
        [2000 * share / 1000 for share in (0.2 + 0.8 / 3, 0.6, 1.0)]
    )


def test_of_two_metrics_only_what_is_best_in_both_is_joined(points: FrontPoints) -> None:
    """Of perplexity against agreement, the dense model is best in both."""
    found = traces(front_figure([points], FrontView(x="perplexity", y="agreement")))
    line = found["front, search text ± 2 s.e."]
    assert line.customdata[0][1] == FRONT[0]
    assert np.isnan(line.x[[1, 3]]).all()
    assert not np.isnan(line.x[[0, 2, 4]]).any()


def test_errors_of_perplexity_are_those_of_its_logarithm(points: FrontPoints) -> None:
    low, high = Axis.of("perplexity", DENSE).bounds(points, "search")
    (row,) = points.rows_of_plans([FRONT[0]])
    assert np.log([low[row], high[row]]) == pytest.approx([3.0 - 0.04, 3.0 + 0.04])


def test_amounts_are_in_the_unit_of_the_dense_model(points: FrontPoints) -> None:
    axis = Axis.of("size", {"size": 269_030_016.0})
    assert (axis.scale, axis.suffix) == (1e6, " MB")


@pytest.mark.parametrize("axis", ["nothing", "kl_x", "holdout_kl"])
def test_an_axis_that_is_none_is_refused(points: FrontPoints, axis: str) -> None:
    with pytest.raises(SettingsError, match="an axis must be a cost or a quality, got"):
        front_figure([points], FrontView(x=axis))


def test_of_many_plans_those_that_others_cover_are_left_out(points: FrontPoints) -> None:
    copies = points.frame.iloc[[3] * 2500].assign(plan_id=[f"copy{i}" for i in range(2500)])
    apart = copies.iloc[:1].assign(plan_id="apart", kl=copies["kl"].iloc[0] + 0.1)
    frame = pd.concat([points.frame, copies, apart], ignore_index=True)
    found = traces(front_figure([replace(points, frame=frame)], VIEW))
    (name,) = [name for name in found if name.startswith("other plans")]
    cloud = found[name]
    drawn = [plan_id for _, plan_id in cloud.customdata]
    assert "apart" in drawn
    assert len(drawn) < 10
    assert cloud.meta == {"plans": int((frame["kind"] == "dominated").sum())}
    assert name == f"other plans ({len(drawn)} of 2,502 drawn)"


def test_few_plans_are_all_drawn(points: FrontPoints) -> None:
    cloud = traces(front_figure([points], VIEW))["other plans"]
    dominated = points.frame.loc[points.frame["kind"] == "dominated", "plan_id"]
    assert {plan_id for _, plan_id in cloud.customdata} == set(dominated)


def test_nothing_to_show_is_shown() -> None:
    assert not front_figure([], VIEW).data


def test_light_and_dark_differ(points: FrontPoints) -> None:
    light, dark = (
        front_figure([points], replace(VIEW, theme=theme)).layout for theme in ("light", "dark")
    )
    assert light.paper_bgcolor != dark.paper_bgcolor
    assert light.font.color != dark.font.color
