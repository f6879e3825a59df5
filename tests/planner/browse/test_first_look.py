"""The page as its address asks for it, with its first picture on it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dash import Dash

from planner.browse import ids
from planner.browse.app import make_app
from planner.browse.first_look import THEME_COOKIE, ThemeChoice, first_look
from planner.browse.requests.request_guard import RequestGuard
from planner.browse.run_shelf import RunShelf
from planner.figures.figure_style import PALETTES
from planner.run import Run


def looked_at(app: Dash, search: str = "", cookie: str | None = None) -> dict[str, Any]:
    """Return the properties of every element that has an id, as a browser gets them."""
    client = app.server.test_client()
    if cookie is not None:
        client.set_cookie(THEME_COOKIE, cookie)
    layout = client.get(f"/_dash-layout?{search}").get_json()
    return {props["id"]: props for props in _elements(layout) if isinstance(props.get("id"), str)}


def _elements(element: Any) -> Iterator[dict[str, Any]]:
    if isinstance(element, list):
        for each in element:
            yield from _elements(each)
    elif isinstance(element, dict) and "props" in element:
        yield element["props"]
        yield from _elements(element["props"].get("children"))


def test_the_front_is_on_the_page_from_the_start(app: Dash, two_runs: Path) -> None:
    page = looked_at(app, "run=first")
    with Run.open(two_runs / "first") as run:
        budget = run.settings.budget or ""
        plans = {plan.plan_id for plan in run.front_plans()}
        best = run.best(budget).plan_id
    assert page[ids.BUDGET]["value"] == str(budget)
    drawn = json.dumps(page[ids.FRONT]["figure"]["data"])
    assert all(plan in drawn for plan in plans)
    assert best in json.dumps(page[ids.ANSWER]["children"])
    assert page[ids.SELECTION]["data"] == [["first", best]]
    assert page[ids.X]["value"] == "params_x"
    # what the page would draw next is drawn from the same, so that nothing is drawn twice
    assert page[ids.FRONT_DRAWN]["data"][:3] == [page[ids.REVISIONS]["data"], "params_x", "kl"]


def test_an_address_is_what_the_page_begins_with(app: Dash, two_runs: Path) -> None:
    with Run.open(two_runs / "first") as run:
        plans = [plan.plan_id for plan in run.front_plans()[:2]]
    asked = "run=first&run=inner/second&budget=kl<=0.5&x=size"
    asked += f"&plan={plans[0]}&plan={plans[1]}@inner/second"
    page = looked_at(app, asked)
    assert page[ids.RUNS]["value"] == ["first", "inner/second"]
    assert page[ids.BUDGET]["value"] == "kl<=0.5"
    assert page[ids.SELECTION]["data"] == [["first", plans[0]], ["inner/second", plans[1]]]
    assert page[ids.COMPARE]["value"] is not None
    assert page[ids.X]["value"] == "size"


@pytest.mark.parametrize("budget", ["params<=nothing", "params<=0.01x"])
def test_a_budget_that_cannot_be_met_is_said(budget: str, app: Dash) -> None:
    page = looked_at(app, f"run=first&budget={budget}")
    assert page[ids.BUDGET]["value"] == budget
    assert page[ids.BUDGET_FAULT]["children"]
    assert page[ids.SHOW_ANSWER]["hidden"] is True
    assert page[ids.FRONT]["figure"]["data"]


def test_the_first_picture_has_the_theme_of_the_visitor(app: Dash) -> None:
    page = looked_at(app, "run=first", "auto-dark")
    assert page[ids.FRONT]["figure"]["layout"]["paper_bgcolor"] == PALETTES["dark"].ground
    assert (page[ids.THEME]["value"], page[ids.THEME_NOW]["data"]) == ("auto", "dark")
    for odd in ("", "dark", "<b>-dark", "dark-<b>", "-", "light-"):
        assert ThemeChoice.of(odd) == ThemeChoice()


def test_without_runs_the_page_says_how_to_begin(tmp_path: Path) -> None:
    shelf = RunShelf(tmp_path)
    page = looked_at(make_app(shelf, RequestGuard()))
    shelf.close()
    assert "No runs yet" in page[ids.NOTICE]["children"]
    assert not page[ids.FRONT]["figure"]["data"]


def test_a_run_that_cannot_be_read_takes_nothing_down(tmp_path: Path, two_runs: Path) -> None:
    (tmp_path / "broken").mkdir()
    for name in ("settings.yaml", "run.sqlite"):
        (tmp_path / "broken" / name).write_bytes(b"\0no such thing")
    shelf = RunShelf(tmp_path)
    page = first_look(shelf, "run=broken", ThemeChoice())
    shelf.close()
    assert "cannot be read" in str(page[ids.RUNS].options)
    assert not page[ids.FRONT].figure["data"]


def test_a_part_that_cannot_be_drawn_takes_no_page_down(
    app: Dash, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("latency")

    monkeypatch.setattr("planner.browse.app.first_look", fail)
    page = looked_at(app, "run=first")
    assert ids.BUDGET in page
    assert "could not be laid out" in caplog.text


@pytest.mark.parametrize("budget", ["params<=1e308x", "latency<=0.5x", "throughput>=50"])
def test_odd_budgets_leave_a_page(budget: str, app: Dash) -> None:
    page = looked_at(app, f"run=first&budget={budget}&x=size")
    assert page[ids.FRONT]["figure"]["data"]
