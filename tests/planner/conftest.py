"""Exports of every family, written once and reloaded as a client would; and the toy run."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from planner.run import Run
from search_spaces.models.loading import LoadedModel
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan
from tests.models.families import Family
from tests.planner.export.exports import Exported, export
from tests.problems.toy_run import write_toy_run
from tests.problems.toy_search import SETTINGS


@pytest.fixture(scope="session")
def exported(
    family: Family,
    structure: ModelStructure,
    loaded_family: LoadedModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Exported:
    """The family with every kind of hole; no test may change it."""
    folder = tmp_path_factory.mktemp("exports") / f"{family.name}-irregular"
    return export(loaded_family, structure, irregular_plan(family), folder)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The toy run, to be read; no test may change it."""
    folder = tmp_path_factory.mktemp("runs") / "toy"
    write_toy_run(folder).close()
    return Run.open(folder)


@pytest.fixture
def toy_copy(toy: Run, tmp_path: Path) -> Iterator[Run]:
    """A copy of the toy run that the test may write to."""
    folder = Path(shutil.copytree(toy.folder, tmp_path / "toy"))
    with Run.resume(folder, SETTINGS) as run:
        yield run
