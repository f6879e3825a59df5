"""The finished small search, open to be read."""

from pathlib import Path

import pytest

from planner import Run


@pytest.fixture(scope="module")
def run(searched: Path) -> Run:
    return Run.open(searched)
