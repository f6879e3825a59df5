"""Looking at plans: one by one, two side by side, many in a table."""

import csv
from pathlib import Path
from urllib.parse import urlencode

import pytest

from planner.browse import ids
from planner.run import Run
from tests.browser.front_page import FrontPage
from tests.browser.server import Server
from tests.browser.visitors import Visit

pytestmark = pytest.mark.browser


@pytest.fixture
def page(visit: Visit, server: Server) -> FrontPage:
    page = visit(server, runs=["first"])
    page.wait_drawn()
    return page


def wait_for_plan(page: FrontPage, plan_id: str) -> None:
    page.part(ids.PLAN_TITLE).filter(has_text=plan_id).wait_for()


def test_a_click_shows_all_of_a_plan(page: FrontPage, results: Path) -> None:
    with Run.open(results / "first") as run:
        plan = run.plan(run.front_plans()[-1].plan_id)
        text = plan.to_json()
    page.click_plan(plan.plan_id)
    wait_for_plan(page, plan.plan_id)
    page.part(ids.SCORES).get_by_text(f"{plan.evaluation.quality['kl'].value:.3f}").wait_for()
    assert "parameters" in page.part(ids.COSTS).inner_text()
    page.wait_for_traces(ids.LAYERS)
    page.page.get_by_text("The plan as JSON").click()
    assert page.part(ids.PLAN_JSON).inner_text().strip() == text.strip()
    with page.page.expect_download() as download:
        page.part(ids.DOWNLOAD_JSON).click()
    assert Path(download.value.path()).read_text(encoding="utf-8") == text


def test_two_plans_are_compared(page: FrontPage) -> None:
    one, other = page.front_plans()[:2]
    page.click_plan(one)
    wait_for_plan(page, one)
    page.options(ids.COMPARE).filter(has_text=other).first.click()
    page.part(ids.VERDICT).filter(has_text=other).wait_for()
    assert "better" in page.part(ids.VERDICT).inner_text()
    page.wait_for_traces(ids.DIFFERENCE)


def test_a_brush_narrows_the_table_and_the_other_picture(page: FrontPage) -> None:
    chosen = page.front_plans()[1:3]
    before = page.wait_for_rows(lambda rows: len(rows) > len(chosen))
    page.brush(chosen)
    page.part(ids.BRUSH_NOTE).filter(has_text="plan").wait_for()
    page.wait_for_rows(lambda rows: set(chosen) <= set(rows) and len(rows) < len(before))
    selected = page.page.evaluate(
        "name => document.querySelector(`#${name} .js-plotly-plot`)._fullData.flatMap(trace =>"
        " (trace.selectedpoints || []).map(i => trace.customdata[i][1]))",
        ids.OTHER,
    )
    assert set(chosen) <= set(selected)
    page.part(ids.CLEAR_BRUSH).click()
    page.wait_for_rows(before.__eq__)


def test_the_table_filters_and_can_be_taken_along(page: FrontPage) -> None:
    grid = page.part(ids.PLANS)
    front = page.wait_for_rows(lambda rows: len(rows) > 1)
    page.wait_for_traces(ids.LAYERS)  # what fills in above pushes the table from under a click
    grid.locator(".ag-floating-filter-input input").first.fill(front[0])
    page.wait_for_rows([front[0]].__eq__)
    with page.page.expect_download() as download:
        page.part(ids.CSV).click()
    with Path(download.value.path()).open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["plan"] for row in rows] == [front[0]]


def test_another_plan_is_found_by_its_address(
    page: FrontPage, server: Server, results: Path
) -> None:
    with Run.open(results / "first") as run:
        (plan_id,) = {run.baselines()["uniform"].plan_id}
    page.open(server.url, runs=["first"], plan=plan_id)
    wait_for_plan(page, plan_id)


def test_two_plans_are_compared_again_when_the_page_is_opened_anew(
    page: FrontPage, server: Server, results: Path
) -> None:
    with Run.open(results / "first") as run:
        first, second = (plan.plan_id for plan in run.front_plans()[:2])
    query = urlencode([("run", "first"), ("run", "second")])
    page.page.goto(f"{server.url}/?{query}&plan={first}&plan={second}@second")
    page.part(ids.VERDICT).filter(has_text=second).wait_for()
    page.wait_for_traces(ids.DIFFERENCE)
    # by then the address says all that is shown, so that a reload shows it again
    page.page.wait_for_function("() => location.search.includes('budget=')")
    page.page.reload()
    page.part(ids.VERDICT).filter(has_text=second).wait_for()
    assert f"{second}%40second" in page.page.url
