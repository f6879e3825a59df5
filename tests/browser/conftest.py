"""What tests in a browser share: the browser, windows that must stay clean, served runs."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Watch, chromium
from tests.browser.front_page import FrontPage
from tests.browser.runs import copy_run
from tests.browser.server import Server, serving
from tests.browser.visitors import HEIGHT, MOST_MILLISECONDS, WIDTH, ColorScheme, Serve, Visit
from tests.shared_folders import shared_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    with chromium() as started:
        yield started


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves folders until the test, and all that its visitors look at, is over."""
    with ExitStack() as servers:
        yield lambda folder, **environment: servers.enter_context(
            serving(folder, environment=environment)
        )


@pytest.fixture
def visit(browser: "Browser", serve: Serve) -> Iterator[Visit]:
    """Opens windows of the page, each of another visitor; all must stay free of errors."""
    opened: list[FrontPage] = []

    def open_page(
        server: Server, *, scheme: ColorScheme = "light", runs: Sequence[str] = (), **asked: str
    ) -> FrontPage:
        context = browser.new_context(
            viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme
        )
        context.set_default_timeout(MOST_MILLISECONDS)
        page = FrontPage(context.new_page(), Watch(context))
        opened.append(page)
        page.open(server.url, runs=runs, **asked)
        return page

    yield open_page
    for page in opened:
        page.close()
    assert [error for page in opened for error in page.watch.errors] == []
    assert [address for page in opened for address in page.watch.foreign] == []


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, searched: Path) -> Path:
    """A folder with two sound runs of the same model; no test may change it."""

    def make(folder: Path) -> None:
        for name in ("first", "second"):
            copy_run(searched, folder / name)

    return shared_folder(tmp_path_factory, "results", make)


@pytest.fixture(scope="session")
def server(results: Path) -> Iterator[Server]:
    """The page over the two runs."""
    with serving(results) as running:
        yield running
