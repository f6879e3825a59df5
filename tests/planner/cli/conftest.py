"""The finished small search, open to be read and exported from."""

import shutil
from pathlib import Path

import pytest

from planner import Run


@pytest.fixture(scope="module")
def run(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.open(Path(shutil.copytree(searched, tmp_path_factory.mktemp("runs") / "run")))
