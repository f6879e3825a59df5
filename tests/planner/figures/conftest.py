"""The toy run as points."""

import pytest

from planner.figures.front_points import FrontPoints
from planner.run import Run


@pytest.fixture(scope="session")
def points(toy: Run) -> FrontPoints:
    return FrontPoints.of(toy, "toy")
