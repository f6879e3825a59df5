"""Graphs that are written once, as tracing takes seconds."""

import pytest

from search_spaces.structure.model import ModelStructure
from tests.models.families import FAMILIES
from tests.planner.targets.onnx.graphs import Graph, plans, write_graphs


@pytest.fixture(scope="session")
def graphs(llama: ModelStructure, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """The tiny Llama pruned in each way; no test may change them."""
    folder = tmp_path_factory.mktemp("graphs")
    return write_graphs("llama", llama, plans(FAMILIES["llama"]), folder)
