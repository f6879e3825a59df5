"""Pictures of the page for documents: ``make screenshots RUN=results/demo``."""

import argparse
import sys
import tempfile
from pathlib import Path

from planner.browse import ids
from tests import ROOT
from tests.browser.chromium import Watch, chromium
from tests.browser.front_page import FrontPage
from tests.browser.runs import copy_run
from tests.browser.server import serving

FOLDER = ROOT / "results" / "screenshots"
WIDTH, HEIGHT = 1280, 800
MOST_BYTES = 300_000


def main() -> int:
    """Take all pictures of a run, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="A finished run.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="Folder of the pictures.")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        results = Path(scratch) / "results"
        copy_run(arguments.run, results / arguments.run.resolve().name)
        with serving(results) as server:
            for theme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=theme
                )
                page = FrontPage(context.new_page(), Watch(context))
                _take(page, server.url, arguments.out, theme)
                page.close()
    pictures = sorted(arguments.out.glob("*.png"))
    sizes = [f"{picture}: {picture.stat().st_size / 1000:.0f} kB\n" for picture in pictures]
    sys.stdout.write("".join(sizes))
    return int(any(picture.stat().st_size > MOST_BYTES for picture in pictures))


def _take(page: FrontPage, url: str, out: Path, theme: str) -> None:
    """Take the pictures in one light: what is seen first, a plan, and two side by side."""
    page.open(url)
    page.wait_drawn()
    page.part(ids.SHOW_ANSWER).click()
    page.part(ids.SCORES).locator("table").wait_for()
    page.wait_for_traces(ids.LAYERS)
    _shoot(page, out / f"page-{theme}.png")
    _shoot(page, out / f"plan-{theme}.png", of=ids.PLAN)
    options = page.options(ids.COMPARE)
    options.nth(options.count() // 3).click()  # one of the front that differs much
    page.wait_for_traces(ids.DIFFERENCE)
    _shoot(page, out / f"compare-{theme}.png", of=ids.COMPARISON)


def _shoot(page: FrontPage, file: Path, of: str | None = None) -> None:
    """Take a picture of what is in the window, scrolled to a part of the page or to its top."""
    page.page.mouse.move(0, 0)  # over nothing that would light up
    for _ in range(2):  # what is still drawn may push the page down
        page.page.wait_for_timeout(700)
        page.page.evaluate(
            "name => document.querySelector(name ? `#${name}` : 'body').scrollIntoView()", of
        )
    page.page.screenshot(path=file)


if __name__ == "__main__":
    sys.exit(main())
