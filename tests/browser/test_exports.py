"""Exports that the page refuses, and one whose proof fails; `test_new_user` has a good one."""

from pathlib import Path

import pytest

from planner.browse import ids
from planner.browse.exporting.export_record import RECORDS_FOLDER
from planner.run import Run
from tests.browser.front_page import FrontPage
from tests.browser.runs import copy_run
from tests.browser.visitors import Serve, Visit

pytestmark = pytest.mark.browser
MOST_MILLISECONDS = 60_000
"""Of an export on a busy machine, which loads PyTorch several times."""
_NOTHING_IS_CLOSE_ENOUGH = """
import sys
if "export" in sys.orig_argv:
    from planner.targets.hf.hf_target import HfTarget
    HfTarget.tolerance = -1.0
"""


@pytest.fixture
def folder(searched: Path, tmp_path: Path) -> Path:
    """A folder with a run that exports may be written beside."""
    folder = tmp_path / "results"
    copy_run(searched, folder / "run", with_weights=True)
    return folder


def begin_export(page: FrontPage, folder: Path, out: str) -> None:
    """Ask for an export of the smallest plan of the front."""
    with Run.open(folder / "run") as run:
        plan_id = run.front_plans()[-1].plan_id
    page.wait_drawn()
    page.click_plan(plan_id)
    page.part(ids.PLAN_TITLE).filter(has_text=plan_id).wait_for()
    page.part(ids.EXPORT_FOLDER).fill(out)
    page.part(ids.EXPORT_FOLDER).press("Tab")
    page.part(ids.EXPORT_START).click()


def test_an_export_that_fails_its_proof_is_shown_and_leaves_nothing(
    visit: Visit, serve: Serve, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "strict").mkdir()
    (tmp_path / "strict" / "sitecustomize.py").write_text(_NOTHING_IS_CLOSE_ENOUGH)
    page = visit(serve(folder, PYTHONPATH=str(tmp_path / "strict")))
    begin_export(page, folder, "model")
    failure = page.part(ids.EXPORTS).filter(has_text="an export must compute what was scored")
    failure.wait_for(timeout=MOST_MILLISECONDS)
    assert {path.name for path in folder.iterdir()} == {"run", RECORDS_FOLDER}


@pytest.mark.parametrize("out", ["../outside", "/tmp/outside", "run"])
def test_an_export_stays_in_the_folder_and_overwrites_nothing(
    visit: Visit, serve: Serve, folder: Path, out: str
) -> None:
    page = visit(serve(folder))
    begin_export(page, folder, out)
    page.part(ids.EXPORT_REPLY).filter(has_text="an export must").wait_for()
    assert [path.name for path in folder.iterdir()] == ["run"]
