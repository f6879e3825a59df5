"""Debian's Chromium without a window, driven by Playwright, and what it asked the network for."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType

CHROMIUM = Path("/usr/bin/chromium")


@contextmanager
def chromium() -> Iterator["Browser"]:
    """Run the browser, the first of this process: Playwright starts only once in each."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, _launched(playwright.chromium) as browser:
        yield browser


@contextmanager
def logging_chromium(running: "Browser", net_log: Path) -> Iterator["Browser"]:
    """Run another browser, of which it is known what it asks the network for.

    Args:
        running: The first browser of this process.
        net_log: File with all network activity, whole once the browser is closed.
    """
    with _launched(running.browser_type, f"--log-net-log={net_log}") as browser:
        yield browser


@contextmanager
def _launched(kind: "BrowserType", *arguments: str) -> Iterator["Browser"]:
    assert CHROMIUM.exists(), f"`{CHROMIUM}` is missing: `make test-browser` installs it"
    browser = kind.launch(executable_path=CHROMIUM, args=arguments)
    try:
        yield browser
    finally:
        browser.close()


def asked_addresses(net_log: Path) -> list[str]:
    """Return every address that a browser's pages asked for.

    What the browser asks for by itself, such as updates of its own, is of no page.
    """
    log = json.loads(net_log.read_text(encoding="utf-8"))
    names = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    asked = []
    for event in log["events"]:
        given = event.get("params", {})
        if names[event["type"]] == "URL_REQUEST_START_JOB" and "url" in given:
            is_of_page = given["initiator"] != "not an origin" or is_local(given["url"])
            asked += [given["url"]] * is_of_page
    return asked


def is_local(address: str) -> bool:
    """Return whether an address is of this machine, or of the page itself."""
    parts = urlsplit(address if "://" in address or ":" in address[:6] else f"//{address}")
    return parts.scheme in {"data", "blob", "about", "file"} or parts.hostname == "127.0.0.1"


class Watch:
    """What went wrong in a browser's window, seen from outside of the page."""

    def __init__(self, context: Any) -> None:
        self.errors: list[str] = []
        """That the page logged or threw."""
        self.addresses: list[str] = []
        """That it asked for."""
        context.on("console", self._logged)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("request", lambda request: self.addresses.append(request.url))

    def _logged(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    @property
    def foreign(self) -> list[str]:
        """Addresses of other machines."""
        return [address for address in self.addresses if not is_local(address)]
