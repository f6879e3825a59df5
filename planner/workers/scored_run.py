"""What a worker scores: a run folder, opened as its search did; it writes pruned weights alone."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock

from evaluators.backends.stage import Stage
from evaluators.runtime.allocator import release_pages
from evaluators.runtime.device import processor_instructions, processor_name
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.preparation.calibration import text_digest
from planner.preparation.dense_model import DenseModel, arithmetic_of, as_begun, open_model
from planner.preparation.prepare import join
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.weights import orders_digest
from planner.settings.search import SearchSettings
from planner.workers.own_version import own_version
from planner.workers.sorted_weights import map_weights_
from search_spaces.errors import ModelError, RunError
from search_spaces.progress import NO_PROGRESS

Split = Literal["search", "fresh", "holdout"]


@dataclass(frozen=True, kw_only=True)
class ScoredText:
    """Windows of a run, and how finely candidates are scored on them."""

    split: Split
    fidelity: Fidelity


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """The run of a search."""

    folder: Path
    """That holds its text, order and weights."""
    settings: SearchSettings
    """As the run keeps them, but for code of the model, which its command line trusts, and for the
    number format."""
    weights_file: Path | None
    """The sorted weights, to be mapped; None: each process holds its own."""
    model_fingerprint: str
    layers: range | None = None
    """That the worker holds, as a stage of a pipeline; None: it scores by itself."""

    @classmethod
    def of(
        cls,
        prepared: PreparedModel,
        settings: SearchSettings,
        weights_file: Path | None,
        layers: range | None = None,
    ) -> "ScoredRun":
        """Return what workers of a search open.

        They are told the number format that it computes in: ``auto`` is measured, and where
        formats are about as fast each process may find another one. So it is with whether layers
        are read from disk, by the memory that is free. Ray shows each one device of the kind.
        """
        opened = as_begun(settings, arithmetic_of(prepared.dense))
        offload = "always" if prepared.dense.structure.backbone.streamed else "never"
        opened = opened.model_copy(update={"offload": offload})
        if settings.worker_devices is not None:
            opened = opened.model_copy(update={"device": settings.worker_devices.kind})
        return cls(
            folder=prepared.folder.resolve(),
            settings=opened,
            weights_file=None if weights_file is None else weights_file.resolve(),
            model_fingerprint=prepared.dense.loaded.identity.fingerprint,
            layers=layers,
        )


def facts_of(prepared: PreparedModel) -> dict[str, str]:
    """Return what scores follow from, in words; of other ones they are not comparable."""
    return {
        "the planner": f"{own_version()}, torch {torch.__version__}",
        "the model": prepared.dense.loaded.identity.fingerprint,
        "arithmetic": f"{prepared.dense.loaded.model.dtype} on {_device_class(prepared.dense)}",
        "text": text_digest(prepared.calibration),
        "order of units": orders_digest(prepared.space),
    }


def _device_class(dense: DenseModel) -> str:
    """Return what devices must share for scores on them to be the same to the last bit."""
    device = dense.loaded.model.device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{processor_name()}, {', '.join(processor_instructions())}"
    return str(device)


@contextmanager
def _in_turn(weights_file: Path | None) -> Iterator[None]:
    """Let one process at a time have weights of its own, before all map the same ones."""
    if weights_file is None:
        yield
        return
    lock = weights_file.with_suffix(f".{socket.gethostname()}.lock")
    with FileLock(lock):  # the kernel frees a killed one's
        yield


def make_evaluator(prepared: PreparedModel, text: ScoredText) -> Evaluator:
    """Return what scores candidates of a prepared model on some of its text."""
    return Evaluator(
        prepared.sorted_model,
        getattr(prepared.calibration, text.split),
        text.fidelity,
        layer_builder=prepared.layer_builder,
    )


class OpenedRun:
    """A run as a worker holds it: the model, and an evaluator on one text at a time.

    Args:
        prepared: The model.
        layers: That stay in memory, as a stage of a pipeline; None: it scores by itself.

    Raises:
        ModelError: If they cannot be read.
    """

    def __init__(self, prepared: PreparedModel, layers: range | None = None) -> None:
        self._prepared = prepared
        self._layers = layers
        self._text: object = None
        self._scoring: Evaluator | Stage | None = None
        self._resident = ExitStack()
        for index in layers or ():
            self._resident.enter_context(prepared.dense.structure.backbone.resident(index))

    @classmethod
    def of(cls, run: ScoredRun, threads: int) -> "OpenedRun":
        """Open a run from its folder.

        Args:
            run: The run.
            threads: Of torch.

        Raises:
            InputError: If the folder, or what it names, is not there or not what it was.
        """
        if not run.folder.is_dir():
            raise RunError(
                f"a worker must reach the run's folder, got no `{run.folder}` on "
                f"{socket.gethostname()}; put it where all machines share a file system"
            )
        torch.set_num_threads(threads)
        with _in_turn(run.weights_file):
            dense = open_model(run.settings, NO_PROGRESS)
            if dense.loaded.identity.fingerprint != run.model_fingerprint:
                raise ModelError(
                    "a worker must have the model of the search, got another "
                    f"`{run.settings.model}` on {socket.gethostname()}; copy the search's there"
                )
            prepared = join(dense, run.settings, run.folder)
            if run.weights_file is not None:
                map_weights_(dense.loaded.model, run.weights_file)
            release_pages()
        return cls(prepared, run.layers)

    @property
    def facts(self) -> Mapping[str, str]:
        """What is scored; see `Desk`."""
        return facts_of(self._prepared)

    def scoring(self, text: object) -> Evaluator | Stage:
        """Return what scores on a text; see `Desk`."""
        assert isinstance(text, ScoredText), "the search that started this worker says which"
        if self._scoring is None or text != self._text:
            self._scoring = None  # memory need not hold two
            self._scoring, self._text = self._made(text), text
        return self._scoring

    def _made(self, text: ScoredText) -> Evaluator | Stage:
        if self._layers is None:
            return make_evaluator(self._prepared, text)
        return Stage(
            self._prepared.sorted_model,
            getattr(self._prepared.calibration, text.split),
            text.fidelity,
            layer_builder=self._prepared.layer_builder,
            layers=self._layers,
        )
