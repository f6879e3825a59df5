"""Asking for the best plan within a budget, by words and by sliders."""

from pathlib import Path

import pytest

from planner.browse import ids
from planner.reports.answer import answer_sentence
from planner.run import Run
from search_spaces.errors import BudgetError
from tests.browser.front_page import FrontPage
from tests.browser.server import Server
from tests.browser.visitors import Visit

pytestmark = pytest.mark.browser


def wait_for_answer(page: FrontPage, text: str) -> None:
    page.part(ids.ANSWER).filter(has_text=text).wait_for()


def test_a_budget_in_the_box_is_answered(visit: Visit, server: Server, results: Path) -> None:
    page = visit(server, runs=["first"])
    page.wait_drawn()
    for budget in ("params<=0.9x", "kl<=0.5"):
        with Run.open(results / "first") as run:
            best, sentence = run.best(budget).plan_id, answer_sentence(run, budget)
        page.set_budget(budget)
        wait_for_answer(page, best)
        assert page.part(ids.ANSWER).inner_text() == sentence
        page.wait_for_mark("best within the budget", best)


def test_what_fits_is_shaded_and_follows_the_budget(visit: Visit, server: Server) -> None:
    page = visit(server, budget="params<=0.9x")
    page.wait_drawn()
    edge = f"document.querySelector('#{ids.FRONT} .js-plotly-plot').layout.shapes[0]?.x1"
    page.page.wait_for_function(f"() => Math.abs({edge} - 0.9) < 1e-9")
    page.set_budget("params<=0.8x")
    page.page.wait_for_function(f"() => Math.abs({edge} - 0.8) < 1e-9")


def test_a_slider_and_the_box_say_the_same(visit: Visit, server: Server, results: Path) -> None:
    page = visit(server, runs=["first"], budget="params<=0.9x")
    wait_for_answer(page, "params")
    slider = page.part(ids.slider_row("params")).get_by_role("slider")
    slider.focus()
    for _ in range(5):
        page.page.keyboard.press("ArrowLeft")
    page.page.wait_for_function(
        "name => document.getElementById(name).value === 'params<=0.85x'", arg=ids.BUDGET
    )
    with Run.open(results / "first") as run:
        wait_for_answer(page, run.best("params<=0.85x").plan_id)
    page.set_budget("params<=0.8x")
    page.page.wait_for_function(
        "([row]) => document.querySelector(`#${row} [role=slider]`)"
        ".getAttribute('aria-valuenow') === '80'",
        arg=[ids.slider_row("params")],
    )


@pytest.mark.parametrize("budget", ["parms<=0.7x", "params<=0.001x", "params<=0.9x,kl<=0"])
def test_a_budget_that_cannot_be_met_is_refused_as_on_the_command_line(
    visit: Visit, server: Server, results: Path, budget: str
) -> None:
    with Run.open(results / "first") as run, pytest.raises(BudgetError) as refused:
        answer_sentence(run, budget)
    page = visit(server, runs=["first"])
    page.wait_drawn()
    page.set_budget(budget)
    page.part(ids.BUDGET_FAULT).filter(has_text=str(refused.value)).wait_for()
    assert page.part(ids.ANSWER).inner_text().strip() == ""
