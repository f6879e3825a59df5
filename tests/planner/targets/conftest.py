"""The tiny Llama, loaded, and two exports of it."""

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, uniform_plan
from tests.models.families import FAMILIES
from tests.planner.export.exports import Exported, export


@pytest.fixture(scope="session")
def loaded_llama(llama: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """The tiny Llama as `load_model` would give it."""
    return LoadedModel(
        model=llama.backbone.model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(llama.backbone.model),
    )


@pytest.fixture(scope="session")
def custom(
    loaded_llama: LoadedModel, llama: ModelStructure, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """An export that takes our code; no test may change it."""
    folder = tmp_path_factory.mktemp("custom") / "custom"
    return export(loaded_llama, llama, irregular_plan(FAMILIES["llama"]), folder)


@pytest.fixture(scope="session")
def stock(
    loaded_llama: LoadedModel, llama: ModelStructure, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """An export that a stock class loads; no test may change it."""
    folder = tmp_path_factory.mktemp("stock") / "stock"
    return export(loaded_llama, llama, uniform_plan(FAMILIES["llama"]), folder)
