"""Nothing that the page does reaches another machine: the network log of a whole session."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from planner.browse import ids
from tests.browser.chromium import Watch, asked_addresses, is_local, logging_chromium
from tests.browser.front_page import FrontPage
from tests.browser.runs import copy_run
from tests.browser.visitors import HEIGHT, WIDTH, Serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def test_no_request_leaves_the_machine(
    browser: "Browser", serve: Serve, searched: Path, tmp_path: Path
) -> None:
    copy_run(searched, tmp_path / "results" / "run")
    server, log = serve(tmp_path / "results"), tmp_path / "net.json"
    with logging_chromium(browser, log) as logging:
        context = logging.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        page = FrontPage(context.new_page(), Watch(context))
        page.open(server.url)
        page.wait_drawn()
        page.set_budget("params<=0.8x")
        page.click_plan(page.front_plans()[0])
        page.part(ids.SCORES).locator("table").wait_for()
        other = page.front_plans()[1]
        page.options(ids.COMPARE).filter(has_text=other).first.click()
        page.part(ids.VERDICT).filter(has_text=other).wait_for()
        page.brush(page.front_plans()[1:3])
        page.part(ids.BRUSH_NOTE).filter(has_text="plan").wait_for()
        page.part(ids.EXPORT_FOLDER).fill("model")
        page.part(ids.EXPORT_START).click()
        page.part(ids.EXPORTS).get_by_text("as hf").wait_for()
        page.part(ids.EXPORTS).get_by_role("button", name="Stop it").click()
        page.part(ids.EXPORTS).locator(".state.stopped").wait_for()
        with page.page.expect_download():
            page.part(ids.CSV).click()
        assert _offers_no_upload(page.page)
        page.page.wait_for_timeout(2500)  # a beat of what follows live runs
        page.close()
    asked = asked_addresses(log)
    assert any(address.startswith(server.url) for address in asked)
    assert [address for address in asked if not is_local(address)] == []


def _offers_no_upload(page: "Page") -> bool:
    """Return whether no picture has a button that sends it elsewhere."""
    buttons = page.locator(".modebar-btn")
    titles = [str(button.get_attribute("data-title")) for button in buttons.all()]
    return bool(titles) and not any("cloud" in title.lower() for title in titles)


def test_what_a_page_asks_elsewhere_is_seen(browser: "Browser", tmp_path: Path) -> None:
    leaky, log = tmp_path / "leaky.html", tmp_path / "net.json"
    leaky.write_text(
        "<img src=http://image.invalid/x.png>"
        "<script>fetch('http://fetch.invalid/').catch(() => 0)</script>"
    )
    with logging_chromium(browser, log) as logging:
        page = logging.new_page()
        page.goto(leaky.as_uri(), wait_until="networkidle")
    foreign = {address for address in asked_addresses(log) if not is_local(address)}
    assert {"http://image.invalid/x.png", "http://fetch.invalid/"} <= foreign


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://127.0.0.1:8050/x", True),
        ("data:image/png;base64,AA", True),
        ("127.0.0.1", True),
        ("https://cdn.plot.ly/x.js", False),
        ("http://127.0.0.1.evil.example/", False),
        ("evil.example", False),
    ],
)
def test_other_machines_are_told_apart(address: str, local: bool) -> None:
    assert is_local(address) is local
