"""Folders of runs, and the page over them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dash import Dash

from planner.browse.app import make_app
from planner.browse.requests.request_guard import RequestGuard
from planner.browse.run_shelf import RunShelf


@pytest.fixture(scope="session")
def two_runs(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run twice; no test may change it."""
    folder = tmp_path_factory.mktemp("browsed")
    for name in ("first", "inner/second"):
        shutil.copytree(searched, folder / name)
    return folder


@pytest.fixture
def shelf(two_runs: Path) -> Iterator[RunShelf]:
    """The runs, open."""
    opened = RunShelf(two_runs)
    yield opened
    opened.close()


@pytest.fixture
def app(shelf: RunShelf) -> Dash:
    """The page over them."""
    return make_app(shelf, RequestGuard())
