"""Fixtures for all tests."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.structure.model import ModelStructure
from tests.models.factory import twin, write_tokenizer
from tests.models.families import FAMILIES, Family, dense

# a busy machine is no failure
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny matrices lose more to handing work around than they win."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Remembering(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def notices() -> Iterator[list[str]]:
    """What our packages log while a test runs."""
    handler = _Remembering()
    loggers = [logging.getLogger(name) for name in ("planner", "evaluators", "search_spaces")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield handler.lines
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(params=FAMILIES.values(), ids=list(FAMILIES), scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    """Each family in turn."""
    chosen = request.param
    assert isinstance(chosen, Family)
    return chosen


@pytest.fixture(scope="session")
def structure(family: Family) -> ModelStructure:
    """A dense model of the family, read; shared by all tests, so none may change it."""
    return dense(family.name)


@pytest.fixture
def sortable(structure: ModelStructure) -> ModelStructure:
    """A copy of the dense model that the test may change."""
    return twin(structure)


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """A fast tokenizer over the vocabulary of the tiny models."""
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


@pytest.fixture(scope="session")
def llama() -> ModelStructure:
    """The Llama of the families, where one family is enough; no test may change it."""
    return dense("llama")


@pytest.fixture(scope="session")
def saved_llama(tmp_path_factory: pytest.TempPathFactory, llama: ModelStructure) -> Path:
    """A folder with the tiny Llama and its tokenizer; no test may change it."""
    folder = tmp_path_factory.mktemp("saved") / "llama"
    llama.backbone.model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def loaded_family(structure: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """The dense model of the family as `load_model` would give it."""
    model: PreTrainedModel = structure.backbone.model
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored_dtype=torch.float32,
        identity=identify(model),
    )
