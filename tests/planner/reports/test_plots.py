"""Pictures whose titles hold a model's name."""

import io

import pytest
from matplotlib.figure import Figure

from planner.reports.plots import draw_title


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("a$x_$b", "a$x_$b"),
        (r"$\frac$ ^{_}", r"$\frac$ ^{_}"),
        ("Привет é", "Привет é"),
        ("a\nb\u202ec\x1b", "a?b?c?"),
        ("模型", "??"),
    ],
)
def test_any_name_is_drawn_without_formulas_and_warnings(name: str, title: str) -> None:
    figure = Figure(figsize=(1, 1))
    axes = figure.subplots()
    draw_title(axes, name)
    figure.savefig(io.BytesIO())  # which a formula or a missing sign would stop
    assert axes.get_title() == title
