"""Everything by the keyboard, and what stands for those who cannot see colour or pictures."""

from pathlib import Path

import pytest

from planner.browse import ids
from planner.run import Run
from tests.browser.front_page import FrontPage
from tests.browser.server import Server
from tests.browser.visitors import Visit

pytestmark = pytest.mark.browser
_FOCUSED = """() => {
    const focused = document.activeElement;
    const holder = focused.closest('[id]');
    return [focused.id, holder ? holder.id : '', focused.getAttribute('role') || focused.tagName];
}"""
_UNNAMED = """() => [...document.querySelectorAll(
    'button, input, select, textarea, [role=slider], [role=combobox], [role=checkbox]')]
    .filter(element => element.offsetParent !== null && !element.closest('.ag-root-wrapper'))
    .filter(element => !(element.getAttribute('aria-label') || element.textContent.trim()
        || element.title || (element.labels && element.labels.length)
        || element.getAttribute('aria-labelledby') || element.closest('[role=group][aria-label]')))
    .map(element => element.outerHTML.slice(0, 120))"""


def tab_to(page: FrontPage, name: str, *, most: int = 80) -> None:
    """Press Tab until an element, or something in it, has the focus."""
    for _ in range(most):
        page.page.keyboard.press("Tab")
        if page.page.evaluate(
            "name => document.getElementById(name).contains(document.activeElement)", name
        ):
            return
    raise AssertionError(f"Tab does not lead to {name}")


def test_a_plan_is_found_and_exported_without_a_mouse(
    visit: Visit, server: Server, results: Path
) -> None:
    page = visit(server, runs=["first"])
    page.wait_drawn()
    tab_to(page, ids.BUDGET)
    page.page.keyboard.press("Control+A")
    page.page.keyboard.type("params<=0.9x")
    page.page.keyboard.press("Enter")
    with Run.open(results / "first") as run:
        best = run.best("params<=0.9x").plan_id
    page.part(ids.ANSWER).filter(has_text=best).wait_for()
    tab_to(page, ids.SHOW_ANSWER)
    page.page.keyboard.press("Enter")
    page.part(ids.SCORES).locator("table").wait_for()
    tab_to(page, ids.EXPORT_FOLDER)
    page.page.keyboard.press("Control+A")
    page.page.keyboard.type("../outside")
    tab_to(page, ids.EXPORT_START)
    page.page.keyboard.press("Enter")
    page.part(ids.EXPORT_REPLY).filter(has_text="an export must").wait_for()


def test_a_slider_moves_by_arrows(visit: Visit, server: Server) -> None:
    page = visit(server, budget="params<=0.9x")
    page.wait_drawn()
    tab_to(page, ids.slider("params"))
    page.page.keyboard.press("ArrowLeft")
    page.page.wait_for_function(
        "name => document.getElementById(name).value === 'params<=0.89x'", arg=ids.BUDGET
    )


def test_the_focus_is_seen(visit: Visit, server: Server) -> None:
    page = visit(server)
    page.wait_drawn()
    tab_to(page, ids.BUDGET)
    outlines = page.page.evaluate(
        "() => [document.activeElement, document.activeElement.parentElement]"
        ".map(element => getComputedStyle(element).outlineStyle)"
    )
    assert set(outlines) != {"none"}


def test_every_control_has_a_name(visit: Visit, server: Server) -> None:
    page = visit(server)
    page.wait_drawn()
    assert page.page.evaluate(_UNNAMED) == []


def test_marks_and_dashes_tell_series_apart_without_colour(visit: Visit, server: Server) -> None:
    page = visit(server)
    page.wait_drawn()
    looks = page.page.evaluate(
        "name => document.querySelector(`#${name} .js-plotly-plot`)._fullData"
        ".filter(trace => trace.showlegend && trace.visible === true)"
        ".map(trace => [trace.mode, trace.marker && trace.marker.symbol,"
        " trace.line && trace.line.dash].join())",
        ids.FRONT,
    )
    assert len(looks) > 3
    assert len(set(looks)) == len(looks)
