"""Exports of every family, written once and reloaded as a client would."""

import pytest

from search_spaces.models.loading import LoadedModel
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan
from tests.models.families import Family
from tests.planner.export.exports import Exported, export


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
