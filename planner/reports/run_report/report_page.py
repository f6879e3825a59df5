"""The page of a run: its figures as Plotly draws them, all else as HTML, in one file."""

import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

import plotly
from jinja2 import Environment, StrictUndefined

from planner.figures.figure_style import PALETTES
from planner.figures.front_figure import front_figure
from planner.figures.front_points import FrontPoints
from planner.figures.front_view import FrontView
from planner.figures.hypervolume_figure import hypervolume_figure
from planner.figures.layer_figure import layer_figure
from planner.reports.plots import MADE_BY
from planner.reports.run_report.report_content import ReportContent, report_content
from planner.reports.sentences import BASELINES
from planner.results.answers import own_budget
from planner.run import Run

_TEMPLATES = "planner.reports.run_report"
_PLOTLY = "package_data/plotly.min.js"


def report_page(run: Run) -> str:
    """Return the page of a run that has a front.

    Raises:
        RunError: If what the run holds is damaged.
    """
    content = report_content(run)
    return (
        _environment()
        .from_string(_read("report.html"))
        .render(
            content=content,
            made_by=MADE_BY,
            told_baselines=BASELINES,
            figures=_figures_json(run, content),
            style=_read("report.css"),
            script=_read("report.js"),
            plotly=_plotly_script(),
        )
    )


def _figures_json(run: Run, content: ReportContent) -> str:
    """Return all figures by id, light and what is other in dark, as JSON that ends no script."""
    points = FrontPoints.of(run, content.model)
    view = FrontView(
        x=f"{points.cost_names[0]}_x",
        budget=own_budget(run),
        best=(points.name, content.best) if content.best else None,
    )
    figures: dict[str, dict[str, Any]] = {}
    for theme in PALETTES:
        drawn = {
            "front": front_figure([points], replace(view, theme=theme)),
            "growth": hypervolume_figure([points], theme),
            **{f"layers-{p.plan_id}": layer_figure(p.layers, theme) for p in content.plans},
        }
        for name, figure in drawn.items():
            figures.setdefault(name, {})[theme] = json.loads(figure.to_json())
    told = {name: {"light": f["light"], "dark": changes(**f)} for name, f in figures.items()}
    return json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")


def changes(light: Any, dark: Any) -> Any:
    """Return what is other in the second of two values, by names and places; see ``report.js``.

    Twice all data would make a large page of a large run.

    >>> changes({"a": 1, "b": [{"c": 2}, {"c": 3}]}, {"a": 1, "b": [{"c": 2}, {"c": 4}]})
    {'b': {1: {'c': 4}}}
    """
    if isinstance(light, list) and isinstance(dark, list) and len(light) == len(dark):
        light, dark = dict(enumerate(light)), dict(enumerate(dark))
    if not (isinstance(light, dict) and isinstance(dark, dict) and light.keys() == dark.keys()):
        return dark
    return {key: changes(light[key], dark[key]) for key in light if light[key] != dark[key]}


@cache
def _environment() -> Environment:
    # everything that comes from a run is escaped
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)


@cache
def _read(name: str) -> str:
    return files(_TEMPLATES).joinpath("assets", name).read_text(encoding="utf-8")


@cache
def _plotly_script() -> str:
    script = files(plotly).joinpath(_PLOTLY).read_text(encoding="utf-8")
    return script.replace("</script", "<\\/script")
