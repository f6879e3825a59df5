"""What a visitor sees first, and how the page adapts to who looks."""

from pathlib import Path

import pytest

from planner.browse import ids
from planner.run import Run
from tests.browser.server import Server
from tests.browser.visitors import Serve, Visit

pytestmark = pytest.mark.browser


def test_the_front_of_a_run_is_drawn(visit: Visit, server: Server, results: Path) -> None:
    page = visit(server)
    page.wait_drawn()
    with Run.open(results / "second") as run:
        front = {plan.plan_id for plan in run.front_plans()}
        scored = {plan.plan_id for plan in run.landed()}
    assert set(page.front_plans()) == front
    assert {point["plan"] for point in page.points()} == scored
    assert "dense model" in page.traces()
    assert "uniform baseline" in page.traces()
    assert "finished" in page.part(ids.RUN_STATES).inner_text()


def test_several_runs_share_a_plot(visit: Visit, server: Server) -> None:
    page = visit(server, runs=["first", "second"])
    page.wait_drawn()
    assert {point["run"] for point in page.points()} == {"first", "second"}
    page.wait_drawn(ids.OTHER)
    assert {point["run"] for point in page.points(ids.OTHER)} == {"first", "second"}


def test_other_plans_can_be_hidden(visit: Visit, server: Server) -> None:
    page = visit(server)
    page.wait_drawn()
    before = len(page.points())
    page.part(ids.DOMINATED).get_by_role("checkbox").click()
    page.page.wait_for_function(
        "name => !document.querySelector(`#${name} .js-plotly-plot`)._fullData"
        ".some(trace => trace.name === 'other plans')",
        arg=ids.FRONT,
    )
    assert len(page.points()) < before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_lies_beside_the_window_in_either_light(
    visit: Visit, server: Server, scheme: str
) -> None:
    page = visit(server, scheme=scheme)
    page.wait_drawn()
    assert not page.is_too_wide()
    brightness = page.page.evaluate(
        "() => getComputedStyle(document.querySelector('.page')).color.match(/\\d+/g)"
        ".slice(0, 3).reduce((sum, part) => sum + Number(part), 0) / 3"
    )
    assert (brightness > 128) == (scheme == "dark")  # of the letters


def test_two_visitors_do_not_disturb_each_other(visit: Visit, server: Server) -> None:
    one, other = visit(server), visit(server)
    for page in (one, other):
        page.wait_drawn()
    one.set_budget("params<=0.9x")
    other.set_budget("params<=0.8x")
    one.page.wait_for_function("name => document.getElementById(name).textContent", arg=ids.ANSWER)
    for page, budget in ((one, "params<=0.9x"), (other, "params<=0.8x")):
        assert page.part(ids.BUDGET).input_value() == budget


def test_a_folder_without_runs_says_what_to_do(visit: Visit, serve: Serve, tmp_path: Path) -> None:
    page = visit(serve(tmp_path))
    notice = page.part(ids.NOTICE)
    notice.filter(has_text="No runs yet").wait_for()
    assert "planner search" in notice.inner_text()
    assert not page.is_too_wide()
