"""Exports that are written once, as tracing takes seconds."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from planner.targets.onnx.onnx_target import OnnxTarget
from search_spaces.structure.model import ModelStructure
from tests.models.families import FAMILIES
from tests.planner.targets.onnx.graphs import Graph, cut_down, loaded, plans
from tests.shared_folders import shared_folder


@pytest.fixture(scope="package")
def graphs(
    llama: ModelStructure,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Graph]:
    """The tiny Llama pruned in each way; no test may change them."""
    family = FAMILIES["llama"]
    kinds = plans(family)

    def write(root: Path) -> None:
        target, dense = OnnxTarget(), loaded(llama, tokenizer)
        for kind, kept in kinds.items():
            (root / kind).mkdir(parents=True)
            target.write(root / kind, cut_down(llama, kept), dense, None)

    root = shared_folder(tmp_path_factory, "onnx", write)
    return {
        kind: Graph(family=family, structure=llama, kept=kept, folder=root / kind)
        for kind, kept in kinds.items()
    }
