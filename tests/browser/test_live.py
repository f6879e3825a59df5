"""Watching a search while it runs, and what another process changes on the disk."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from planner.browse import ids
from tests.browser.front_page import FrontPage
from tests.browser.runs import copy_run
from tests.browser.visitors import Serve, Visit
from tests.settings import SMALL

pytestmark = pytest.mark.browser
_PLANS = {**SMALL, "evaluations": 200, "population": 8}


def scored(page: FrontPage) -> int:
    return len({point["plan"] for point in page.points()})


def test_a_search_is_seen_to_move(
    visit: Visit, serve: Serve, saved_llama: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    options = [f"--{name}={value}" for name, value in _PLANS.items()]
    command = [sys.executable, "-m", "planner", "search", str(saved_llama), *options]
    server = serve(folder)
    page = visit(server)
    page.part(ids.NOTICE).filter(has_text="No runs yet").wait_for()
    search = subprocess.Popen(
        [*command, f"--out={folder / 'run'}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        page.part(ids.RUN_STATES).filter(has_text="searching").wait_for(timeout=40_000)
        page.wait_drawn()
        before = scored(page)
        page.page.wait_for_function(
            "([name, before]) => document.querySelector(`#${name} .js-plotly-plot`)._fullData"
            ".reduce((sum, trace) => sum + (trace.customdata || []).length, 0) > before",
            arg=[ids.FRONT, len(page.points())],
            timeout=20_000,
        )
        assert scored(page) > before
        page.wait_for_traces(ids.HYPERVOLUME)
        page.part(ids.RUN_STATES).filter(has_text="finished").wait_for(timeout=60_000)
        assert search.wait(timeout=30) == 0
    finally:
        search.kill()
        search.wait()


def test_what_another_process_changes_is_read_again(
    visit: Visit, serve: Serve, searched: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "results"
    copy_run(searched, folder / "run")
    server = serve(folder)
    page = visit(server)
    page.wait_drawn()
    shown = page.points()
    shutil.rmtree(folder / "run")
    page.part(ids.RUN_STATES).filter(has_text="cannot be read").wait_for()
    copy_run(searched, folder / "run")
    page.part(ids.RUN_STATES).filter(has_text="finished").wait_for()
    page.wait_drawn()
    assert page.points() == shown
    page.page.reload()
    page.wait_drawn()
    assert page.points() == shown
