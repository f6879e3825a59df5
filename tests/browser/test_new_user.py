"""Three tasks, as somebody does them who sees the page for the first time, in under a minute."""

import time
from pathlib import Path

import pytest

from planner.browse import ids
from planner.run import Run
from tests.browser.conftest import Visit
from tests.browser.runs import copy_run
from tests.browser.server import serving

pytestmark = pytest.mark.browser
MOST_SECONDS = 60.0


def test_three_tasks_take_less_than_a_minute(visit: Visit, searched: Path, tmp_path: Path) -> None:
    """Find the best plan within a size, say which layers it drops, and export it.

    Only what is written on the page is used: labels of fields, buttons and headings.
    """
    folder = tmp_path / "results"
    copy_run(searched, folder / "run")
    with Run.open(folder / "run") as run:
        kilobytes = round(0.85 * run.dense["size"] / 1000, 1)
        budget = f"size<={kilobytes:g}kB"
        plan = run.plan(run.best(budget).plan_id)
    layers = plan.layers()
    dropped = layers.loc[layers["kept"] == 0, "layer"].tolist()
    with serving(folder) as server:
        page = visit(server)
        started = time.monotonic()
        box = page.page.get_by_label("Budget", exact=True).and_(page.page.get_by_role("textbox"))
        box.fill(budget)
        box.press("Enter")
        page.part(ids.ANSWER).filter(has_text=plan.plan_id).wait_for()
        page.page.get_by_role("button", name="Show this plan").click()
        page.page.get_by_role("heading", name=plan.plan_id).wait_for()
        said = page.part(ids.PLAN).inner_text()
        page.page.get_by_label("New folder").and_(page.page.get_by_role("textbox")).fill("mine")
        page.page.get_by_role("button", name="Export this plan").click()
        page.part(ids.EXPORTS).filter(has_text="proved").wait_for(timeout=60_000)
        seconds = time.monotonic() - started
    assert all(str(layer) in said for layer in dropped)
    assert ("drops" in said) or not dropped
    assert (folder / "mine" / "manifest.json").is_file()
    assert seconds < MOST_SECONDS
