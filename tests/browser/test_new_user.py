"""Three tasks, as somebody does them who sees the page for the first time, in under a minute."""

import re
import time
from pathlib import Path

import pytest

from planner.browse import ids
from planner.export.cards.manifest import Manifest
from planner.run import Run
from tests.browser.runs import copy_run
from tests.browser.visitors import Serve, Visit

pytestmark = pytest.mark.browser
MOST_SECONDS = 60.0
"""From the first look until an export is on its way: what the user does."""
EXPORT_MILLISECONDS = 240_000
"""Until it is proved on a busy machine, which loads PyTorch several times."""


def test_three_tasks_take_less_than_a_minute(
    visit: Visit, serve: Serve, searched: Path, tmp_path: Path
) -> None:
    """Find the best plan within a size, say which layers it drops, and export it.

    Only what is written on the page is used: labels of fields, buttons and headings. The page is
    closed while the export runs, and opened again.
    """
    folder = tmp_path / "results"
    copy_run(searched, folder / "run", with_weights=True)
    with Run.open(folder / "run") as run:
        budget = f"size<={0.85 * run.dense['size'] / 1000:.0f}kB"
        plan = run.plan(run.best(budget).plan_id)
        layers = plan.layers()
    server = serve(folder)
    started = time.monotonic()
    page = visit(server)
    box = page.page.get_by_label("Budget", exact=True).and_(page.page.get_by_role("textbox"))
    box.fill(budget)
    box.press("Enter")
    page.part(ids.ANSWER).filter(has_text=plan.plan_id).wait_for()
    page.page.get_by_role("button", name="Show this plan").click()
    page.page.get_by_role("heading", name=plan.plan_id).wait_for()
    said = page.page.get_by_text("It drops").inner_text()
    place = page.page.get_by_label("New folder").and_(page.page.get_by_role("textbox"))
    place.fill("mine")
    place.press("Enter")
    page.page.get_by_role("button", name="Export this plan").click()
    page.part(ids.EXPORTS).filter(has_text="mine").wait_for()
    seconds = time.monotonic() - started
    page.close()
    exports = visit(server).part(ids.EXPORTS)
    exports.filter(has_text="exported and proved").wait_for(timeout=EXPORT_MILLISECONDS)
    assert set(map(int, re.findall(r"\d+", said))) == set(layers["layer"][layers["kept"] == 0])
    manifest = Manifest.model_validate_json((folder / "mine" / "manifest.json").read_bytes())
    assert manifest.plan_id == plan.plan_id
    assert seconds < MOST_SECONDS
