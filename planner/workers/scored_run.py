"""What a worker scores: a run folder, opened as its search did, and nothing written there."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from evaluators.backends.stage import Stage
from evaluators.runtime.allocator import release_pages
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.preparation.calibration import text_digest
from planner.preparation.dense_model import arithmetic_of, open_model
from planner.preparation.prepare import join
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.weights import orders_digest
from planner.settings.search import SearchSettings
from planner.workers.sorted_weights import map_weights_
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
        formats are about as fast each process may find another one.
        """
        dtype = str(prepared.dense.loaded.model.dtype).removeprefix("torch.")
        return cls(
            folder=prepared.folder,
            settings=settings.streamed_in_pipeline.model_copy(update={"dtype": dtype}),
            weights_file=weights_file,
            layers=layers,
        )


def facts_of(prepared: PreparedModel) -> dict[str, str]:
    """Return what scores follow from, in words; of other ones they are not comparable."""
    arithmetic = arithmetic_of(prepared.dense)
    return {
        "the model": prepared.dense.loaded.identity.fingerprint,
        "arithmetic": f"{arithmetic}, {torch.backends.cpu.get_cpu_capability()}",
        "text": text_digest(prepared.calibration),
        "order of units": orders_digest(prepared.space),
    }


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
            InputError: If the folder, or what it names, is no longer what it was.
        """
        torch.set_num_threads(threads)
        dense = open_model(run.settings, NO_PROGRESS)
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
