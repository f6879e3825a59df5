"""The page over 20,000 evaluations: its first picture, its answers, the memory of its server."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from benchmarks.big_run import write_big_run
from benchmarks.page_probe import (
    AXIS,
    BUDGET,
    DOMINATED,
    PLAN,
    SLIDER,
    TABLE,
    Probe,
    visitor,
)
from benchmarks.report import Goal, Row, finish, is_quick
from planner.browse import ids
from planner.figures.front_points import FrontPoints
from planner.run import Run
from tests.browser.chromium import chromium
from tests.browser.server import Server, serving

PLANS = 20_000
SEED = 0
_MEGABYTE = 1e6
NOTES = f"""
One run of {PLANS:,} evaluations is written as a search writes it: the space of SmolLM2-135M (60
sites), 16 windows of search text, a front in KL, parameters and cache re-scored on fresh and
held-out text; its scores are made up. `planner browse` serves it, and Chromium shows it without a
window and without a graphics card, at 1280 × 900, on the same cores.

*first picture*: from navigation until all plans are drawn, by the browser's clock; the first
visitor of a server that has just said its address, and the second. Before it does, it reads the
run, which the first row holds, from the command on. *Interactions*
are timed in the browser, from its event (a key, a click) until all that the answer changes is
drawn. Of the plans beside the front those are drawn that others do not cover.

*memory*: unique to the server's process, after all visitors, less that of a bare Python.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    repeats, servers = (5, 1) if is_quick() else (20, 5)
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        folder = Path(scratch)
        write_big_run(folder / "big", PLANS, seed=SEED)
        clouds = _plans_of_clouds(folder / "big")
        openings: list[tuple[float, float, float]] = []
        for number in range(servers):
            started = time.monotonic()
            with serving(folder) as server:
                ready = time.monotonic() - started
                first, second = visitor(browser), visitor(browser)
                openings.append(
                    (
                        ready,
                        first.first_picture(server.url, clouds),
                        second.first_picture(server.url, clouds),
                    )
                )
                first.close()
                if number == servers - 1:
                    seconds = _interactions(second, repeats)
                    megabytes = _megabytes_beyond_python(server)
                second.close()
    rows = [*_opening_rows(openings), *_interaction_rows(seconds)]
    medians = [statistics.median(each) for each in seconds.values()]
    goals = [
        Goal(
            figure="first picture, s",
            value=statistics.median(first for _, first, _ in openings),
            limit=2.0,
            at_least=False,
        ),
        Goal(
            figure="slowest kind of interaction, s",
            value=max(medians),
            limit=0.3,
            at_least=False,
        ),
        Goal(figure="MB beyond Python", value=megabytes, limit=300, at_least=False),
    ]
    return finish("page", rows, goals, NOTES, seed=SEED)


def _plans_of_clouds(folder: Path) -> int:
    """Return how many plans of a run are drawn neither as its front nor, for failing, at all."""
    with Run.open(folder) as run:
        return len(FrontPoints.of(run, "big").rows_of_kind("dominated", "partial"))


def _opening_rows(openings: list[tuple[float, float, float]]) -> list[Row]:
    waits = ("until the address is said", "first picture, first visitor", "second visitor")
    return [
        {
            "opening": name,
            "median, s": statistics.median(times),
            "fastest, s": min(times),
            "slowest, s": max(times),
        }
        for name, times in zip(waits, zip(*openings, strict=True), strict=True)
    ]


def _interaction_rows(seconds: Mapping[str, list[float]]) -> list[Row]:
    return [
        {
            "interaction": kind,
            "times": len(each),
            "median, s": statistics.median(each),
            "fastest, s": min(each),
            "slowest, s": max(each),
        }
        for kind, each in seconds.items()
    ]


def _interactions(page: Probe, repeats: int) -> dict[str, list[float]]:
    """Return the seconds that each of some interactions took, by kind."""
    kinds: Mapping[str, Callable[[Probe, int], float]] = {
        "another budget": _type_budget,
        "a step of a slider": _step_slider,
        "a click on a plan": _click_plan,
        "other plans off, on": _switch_dominated,
        "another axis": _change_axis,
        "the table of all plans, of the front": _list_others,
        "a brush over most plans": _brush_most,
    }
    found = {}
    for kind, do in kinds.items():
        if do is _brush_most:
            page.zoom_out()
        found[kind] = [do(page, number) for number in range(repeats)]
    return found


def _type_budget(page: Probe, number: int) -> float:
    box = page.part(ids.BUDGET)
    box.fill(f"params<={0.9 - 0.015 * number:.3f}x")
    with page.timed(BUDGET) as seconds:
        box.press("Enter")
    return seconds[0]


def _step_slider(page: Probe, number: int) -> float:
    thumb = page.part(ids.slider_row("params")).get_by_role("slider")
    thumb.focus()
    with page.timed(SLIDER) as seconds:
        page.page.keyboard.press("ArrowRight")
    return seconds[0]


def _click_plan(page: Probe, number: int) -> float:
    plans = page.front_plans()
    plan_id = plans[(number * len(plans)) // 21]
    x, y = page.place(plan_id)
    page.page.mouse.move(x, y)
    with page.timed(PLAN) as seconds:
        page.page.mouse.click(x, y)
    return seconds[0]


def _switch_dominated(page: Probe, number: int) -> float:
    with page.timed(DOMINATED) as seconds:
        page.part(ids.DOMINATED).get_by_role("checkbox").click()
    return seconds[0]


def _change_axis(page: Probe, number: int) -> float:
    names = ("cache a token", "parameters")
    option = page.options(ids.X).filter(has_text=names[number % 2]).first
    option.scroll_into_view_if_needed()
    with page.timed(AXIS) as seconds:
        option.click()
    return seconds[0]


def _list_others(page: Probe, number: int) -> float:
    shown = page.part(ids.SHOWN_PLANS).get_by_role("radio").nth((number + 1) % 2)
    shown.scroll_into_view_if_needed()
    with page.timed(TABLE) as seconds:
        shown.click()
    return seconds[0]


def _brush_most(page: Probe, number: int) -> float:
    clear = page.part(ids.CLEAR_BRUSH)
    if clear.is_visible():  # or the outline that is there would be moved
        clear.click()
        clear.wait_for(state="hidden")
    return page.brush_box(0.98 - 0.01 * number)[0]


def _megabytes_beyond_python(server: Server) -> float:
    """Return the memory that a server has more than Python itself."""
    bare = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert bare.stdout is not None
        bare.stdout.readline()
        unique = [psutil.Process(pid).memory_full_info().uss for pid in (server.pid, bare.pid)]
    finally:
        bare.communicate(b"\n")
    return (unique[0] - unique[1]) / _MEGABYTE


if __name__ == "__main__":
    sys.exit(main())
