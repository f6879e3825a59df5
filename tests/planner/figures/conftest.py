"""The toy run and its points."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.figures.front_points import FrontPoints
from planner.run import Run
from tests.problems.toy_run import write_toy_run


@pytest.fixture
def toy_run(tmp_path: Path) -> Iterator[Run]:
    with write_toy_run(tmp_path / "toy") as run:
        yield run


@pytest.fixture
def points(toy_run: Run) -> FrontPoints:
    return FrontPoints.of(toy_run, "toy")
