"""The report as a file: it opens without a server and asks nobody for anything."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from planner.cli.main import main
from tests.browser.chromium import Watch, asked_addresses, logging_chromium
from tests.browser.visitors import ColorScheme

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_opens_offline(
    browser: "Browser", results: Path, tmp_path: Path, scheme: ColorScheme
) -> None:
    file, log = tmp_path / "report.html", tmp_path / "net.json"
    assert main(["report", str(results / "first"), f"--out={file}"]) == 0
    with logging_chromium(browser, log) as logging:
        context = logging.new_context(
            viewport={"width": 1280, "height": 900}, offline=True, color_scheme=scheme
        )
        watch, page = Watch(context), context.new_page()
        page.goto(file.as_uri())
        page.locator(".js-plotly-plot .scatterlayer").first.wait_for()
        drawn = page.evaluate(
            "() => [...document.querySelectorAll('.js-plotly-plot')].every(plot => plot.calcdata)"
        )
        wide = page.evaluate(
            "() => document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )
        context.close()
    assert drawn
    assert not wide
    assert watch.errors == []
    assert asked_addresses(log) == []
