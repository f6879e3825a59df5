"""Plans layer by layer, and two of them side by side."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from planner.figures.difference_figure import difference_figure
from planner.figures.figure_style import PALETTES
from planner.figures.layer_figure import layer_figure
from planner.results.plan_difference import plan_difference
from planner.run import Run
from tests.problems.toy_run import FRONT


def test_a_plan_has_one_strip_a_kind_with_its_numbers(toy: Run) -> None:
    figure = layer_figure(toy.plan(FRONT[1]).layers())
    (heat,) = figure.data
    assert [*heat.y] == ["MLP: channels, of 3"]
    assert [*heat.x] == [*range(8)]
    assert [*heat.text[0]] == ["3", "1"] * 4
    assert [*heat.z[0]] == pytest.approx([1, 1 / 3] * 4)
    assert heat.hovertext[0][1] == "1 of 3 channels kept"


def test_a_strip_has_a_gap_where_there_is_nothing_to_choose() -> None:
    frame = pd.DataFrame(
        [
            {"layer": 0, "component": "mlp", "kept": 1, "of": 2, "unit": "channels"},
            {"layer": 1, "component": "<b>", "kept": 1, "of": 2, "unit": "channels"},
        ]
    ).assign(options="")
    (heat,) = layer_figure(frame, "dark").data
    assert [*heat.y] == ["MLP: channels, of 2", "&lt;b&gt;: channels, of 2"]
    assert np.isnan(np.array(heat.z, dtype=float)).tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize(
    ("layers", "rows"), [(1, [1]), (32, [32]), (33, [17, 16]), (80, [27, 27, 26])]
)
def test_many_layers_go_on_further_down(layers: int, rows: list[int]) -> None:
    frame = pd.DataFrame({"layer": [*range(layers)], "component": "mlp", "kept": 1, "of": 2})
    figure = layer_figure(frame.assign(unit="channels", options=""))
    assert [len(heat.x) for heat in figure.data] == rows
    assert [layer for heat in figure.data for layer in heat.x] == [*range(layers)]
    axes = [figure.layout[heat.xaxis.replace("x", "xaxis")] for heat in figure.data]
    assert {axis.range[1] - axis.range[0] for axis in axes} == {rows[0]}
    floors = [figure.layout[heat.yaxis.replace("y", "yaxis")].domain for heat in figure.data]
    assert floors[0][1] == pytest.approx(1)
    assert all(upper[0] > lower[1] for upper, lower in pairwise(floors))


def test_a_difference_shows_what_the_second_keeps_more(toy: Run) -> None:
    difference = plan_difference(toy.plan(FRONT[1]), toy.plan(FRONT[2]))
    figure = difference_figure(difference)
    (heat,) = figure.data
    assert [*heat.text[0]] == ["−67", ""] * 4
    assert heat.hovertext[0][0] == "3 of 3 channels kept → 1 of 3 channels kept"
    assert f"+ {FRONT[2]} keeps more, − {FRONT[1]} keeps more" in figure.layout.title.text


def test_plans_that_are_alike_say_so(toy: Run) -> None:
    plan = toy.plan(FRONT[1])
    figure = difference_figure(plan_difference(plan, plan))
    assert not figure.data
    assert figure.layout.annotations[0].text == "both plans keep the same of every layer"


def test_the_palettes_are_told_apart_by_lightness_too() -> None:
    for palette in PALETTES.values():
        ground, text = _luminance(palette.ground), _luminance(palette.text)
        lightness = [_luminance(colour) for colour in palette.scale]
        assert lightness == sorted(lightness)
        marks = (*palette.series, *palette.scale, palette.feasible)
        assert min(_contrast(ground, _luminance(colour)) for colour in marks) >= 3
        below = (palette.ground, *palette.kept, *palette.less_or_more)
        assert min(_contrast(text, _luminance(colour)) for colour in below) >= 4.5


def _luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)
