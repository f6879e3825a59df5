"""Runs that are broken, old, half written or named to do harm: shown as such, and harmless."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.browse import ids
from tests.browser.runs import ODD_NAME, SCRIPT, write_odd_runs
from tests.browser.server import Server, serving
from tests.browser.visitors import Visit
from tests.shared_folders import shared_folder

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def odd_server(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Iterator[Server]:
    folder = shared_folder(
        tmp_path_factory, "odd-runs", lambda folder: write_odd_runs(folder, searched)
    )
    with serving(folder) as running:
        yield running


def test_every_run_is_listed_and_no_other_folder(visit: Visit, odd_server: Server) -> None:
    page = visit(odd_server)
    texts = page.options(ids.RUNS).all_inner_texts()
    names = [text.partition(" – ")[0].strip() for text in texts]
    assert sorted(names) == sorted([ODD_NAME, "begun", "broken", "cut", "old", "script", "sound"])
    faulty = {name for name, text in zip(names, texts, strict=True) if "cannot be read" in text}
    assert {"broken", "cut", "old"} <= faulty
    assert not {"sound", "script", ODD_NAME} & faulty


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("broken", "cannot be read"),
        ("cut", "cannot be read"),
        ("old", "of version 7, got 3"),
        ("begun", "nothing"),
    ],
)
def test_a_run_that_cannot_be_read_says_why_beside_a_sound_one(
    visit: Visit, odd_server: Server, name: str, said: str
) -> None:
    page = visit(odd_server, runs=["sound", name])
    page.wait_drawn()
    assert {point["run"] for point in page.points()} == {"sound"}
    assert said in page.part(ids.RUN_STATES).inner_text()


def test_names_are_shown_as_they_are_written(visit: Visit, odd_server: Server) -> None:
    page = visit(odd_server, runs=["script", ODD_NAME], budget="params<=0.9x")
    page.wait_drawn()
    page.part(ids.ANSWER).filter(has_text=ODD_NAME).wait_for()
    assert ODD_NAME in page.part(ids.RUN_STATES).inner_text()
    assert any(Path(SCRIPT).name in text for text in page.options(ids.RUNS).all_inner_texts())
    page.page.keyboard.press("Escape")
    page.click_plan(page.front_plans()[0])
    page.part(ids.SCORES).locator("table").wait_for()
    made = "() => document.querySelectorAll('img[src=x], #react-entry-point script').length"
    assert page.page.evaluate(made) == 0


def test_an_address_that_leads_out_shows_nothing_from_there(
    visit: Visit, odd_server: Server
) -> None:
    page = visit(odd_server, runs=["../odd-runs/sound"])
    page.wait_drawn()  # what the page would show without
    assert not any(".." in point["run"] for point in page.points())
