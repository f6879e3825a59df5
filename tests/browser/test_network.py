"""Nothing that the page does reaches another machine: the network log of a whole session."""

from pathlib import Path

import pytest

from planner.browse import ids
from tests.browser.chromium import Watch, asked_addresses, chromium, is_local
from tests.browser.front_page import FrontPage
from tests.browser.server import Server
from tests.browser.visitors import HEIGHT, WIDTH

pytestmark = pytest.mark.browser


def test_no_request_leaves_the_machine(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "net.json"
    with chromium(net_log=log) as browser:
        context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
        page = FrontPage(context.new_page(), Watch(context))
        page.open(server.url)
        page.wait_drawn()
        page.set_budget("params<=0.8x")
        page.click_plan(page.front_plans()[0])
        page.part(ids.SCORES).locator("table").wait_for()
        with page.page.expect_download():
            page.part(ids.CSV).click()
        page.page.wait_for_timeout(2500)  # a beat of what follows live runs
        page.close()
    asked = asked_addresses(log)
    assert any(address.startswith(server.url) for address in asked)
    assert [address for address in asked if not is_local(address)] == []


def test_what_a_page_asks_elsewhere_is_seen(tmp_path: Path) -> None:
    leaky, log = tmp_path / "leaky.html", tmp_path / "net.json"
    leaky.write_text(
        "<img src=http://image.invalid/x.png>"
        "<script>fetch('http://fetch.invalid/').catch(() => 0)</script>"
    )
    with chromium(net_log=log) as browser:
        page = browser.new_page()
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
