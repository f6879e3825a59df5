"""Fixtures of all tests, and what every test is held to."""

import gc
import logging
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.structure.model import ModelStructure
from tests import TORCH_THREADS
from tests.models.factory import save_model, twin, write_tokenizer
from tests.models.families import FAMILIES, Family, dense, family_params
from tests.settings import SMALL
from tests.shared_folders import shared_folder

# a busy machine is no failure
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

MOST_SECONDS = 10 * float(os.environ.get("TEST_SECONDS_FACTOR", "1"))
"""What a default test may take, its own setup included; the factor is for slow machines.

Of processor time: what it takes on an idle machine, whatever else shares this one.
"""
UNTIMED_MARKS = ("browser", "families", "gpu", "ray", "real", "slow", "vllm")
_started = pytest.StashKey[float]()


def _processor_seconds() -> float:
    """Return what this process has used, with the children that it has waited for."""
    return sum(os.times()[:4])


class _SharedFixtures:
    """A plugin of its own, for pytest asks no file of this folder about fixtures of a session."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """What those have taken in this process that more tests than one use."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """Measure what is no test's own."""
        before = _processor_seconds()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.seconds += _processor_seconds() - before


_shared = _SharedFixtures()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_shared)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    """Note when the test began, as if what others share had been there."""
    item.stash[_started] = _processor_seconds()
    before = _shared.seconds
    try:
        return (yield)
    finally:
        item.stash[_started] += _shared.seconds - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that passed and took too long, so that the suite stays fast."""
    report = yield
    if call.when != "call" or not report.passed:
        return report
    seconds = _processor_seconds() - item.stash[_started]
    if seconds > MOST_SECONDS and not any(map(item.get_closest_marker, UNTIMED_MARKS)):
        report.outcome = "failed"
        report.longrepr = (
            f"a default test must take at most {MOST_SECONDS:g} s of processor time, its own "
            f"setup included, and this one took {seconds:.1f} s; make it smaller, mark it `slow`, "
            "or set TEST_SECONDS_FACTOR on a slow machine"
        )
    return report


@pytest.fixture(scope="session", autouse=True)
def _quick_process() -> Iterator[None]:
    """Few threads, as tiny matrices lose more to handing work around than they win.

    What was imported is never garbage, and looking through it takes longer than most tests.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(TORCH_THREADS)
    gc.freeze()
    yield
    gc.unfreeze()
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


@pytest.fixture(
    params=[family_params(family, name=name) for name, family in FAMILIES.items()], scope="session"
)
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
    model = llama.backbone.model
    return shared_folder(tmp_path_factory, "llama", lambda folder: save_model(model, folder))


@pytest.fixture
def llama_copy(saved_llama: Path, tmp_path: Path) -> Path:
    """A copy of the saved Llama that the test may do harm to."""
    return Path(shutil.copytree(saved_llama, tmp_path / "model"))


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory, saved_llama: Path) -> Path:
    """A finished small search of the tiny Llama, to be read; no test may change it."""
    from planner import search

    return shared_folder(
        tmp_path_factory,
        "searched",
        lambda folder: search(str(saved_llama), out=folder, **SMALL).close(),
    )


@pytest.fixture
def searched_copy(searched: Path, tmp_path: Path) -> Path:
    """A copy of the finished small search that the test may change."""
    return Path(shutil.copytree(searched, tmp_path / "searched"))


@pytest.fixture(scope="session")
def loaded_family(structure: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """The dense model of the family as `load_model` would give it."""
    model: PreTrainedModel = structure.backbone.model
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(model),
    )
