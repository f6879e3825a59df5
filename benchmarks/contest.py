"""Searchers on one model and one text, each as a real run whose progress can be followed."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import Row
from benchmarks.smollm2 import write_topics
from evaluators.metric import Measurement
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.cli.commands.demo_command import demo_model
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare, with_search_space
from planner.preparation.prepared_model import PreparedModel
from planner.results.significance import Verdict
from planner.run import Run
from planner.runs.records import Evaluation, SearchEffort
from planner.searching.scorer import Scorer
from planner.searching.search_model import search_prepared
from planner.searching.spending import SearchProgress
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings
from search_spaces.progress import NoProgress

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

WIKITEXT2 = "WIKITEXT2"
"""Environment variable that names a folder with WikiText-2 as ``valid.txt`` and ``test.txt``."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A plan that was the best within the budget when it landed."""

    evaluation: Evaluation
    tokens: int
    """Candidate tokens spent by then."""
    seconds: float


@dataclass(kw_only=True)
class Trace:
    """One search."""

    run: Run
    steps: list[Step] = field(default_factory=list)
    """The best plan within the budget, each time that there was a better one."""

    @property
    def spent(self) -> SearchEffort:
        """What the search took."""
        return self.run.spent


class Contest:
    """One model on one text, calibrated and sorted once for all searchers.

    Args:
        seed: Draws the windows.
        options: Of `SearchSettings`, for all searchers.
    """

    def __init__(self, seed: int, **options: Any) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        self.folder = Path(self._scratch.name)
        self.settings = SearchSettings.checked(
            **{
                "model": options.get("model") or str(demo_model()),
                "seed": seed,
                "dtype": "float32",
                "device": "cpu",
                "evaluations": 10**6,
                **text_options(self.folder),
                **options,
            }
        )
        dense = open_model(self.settings, NoProgress())
        self.prepared: PreparedModel = prepare(dense, self.settings, self.folder, NoProgress())
        windows = self.prepared.calibration.holdout
        evaluator = Evaluator(
            self.prepared.sorted_model,
            windows,
            Fidelity(state_bytes=0),
            layer_builder=self.prepared.layer_builder,
        )
        self._holdout = Scorer(self.prepared, evaluator)
        self._holdout_kls: dict[Genome, Measurement] = {}

    def run(self, name: str, **options: Any) -> Trace:
        """Search once, as a run of its own.

        Args:
            name: Of the run's folder.
            options: Of `SearchSettings`, besides those of the contest.
        """
        settings = self.settings.model_copy(update=options)
        budget, dense = settings.budget or Budget(), self.prepared.dense.costs.dense()
        with Run.create(self.folder / name, settings) as run:
            trace = Trace(run=run)
            prepared = with_search_space(self._on(settings.search_windows), settings, self.folder)

            def follow(progress: SearchProgress) -> None:
                latest, rest = progress.latest, trace.steps[-1:]
                if latest is None or not progress.is_complete:
                    return
                if not budget.admits(latest.costs, dense):
                    return
                # an elite that lost to its child is no step, though the last may be worse on this
                if (
                    not rest
                    or settings.searcher == "evopress"
                    or _kl(latest) < _kl(rest[0].evaluation)
                ):
                    step = Step(
                        evaluation=latest, tokens=progress.tokens, seconds=progress.seconds
                    )
                    trace.steps.append(step)

            search_prepared(run, prepared, NoProgress(), with_baselines=False, on_progress=follow)
        trace.run = Run.open(run.folder)
        return trace

    def _on(self, windows: int) -> PreparedModel:
        """Return the prepared model with the first windows of its text only."""
        text = self.prepared.calibration
        return replace(self.prepared, calibration=replace(text, search=text.search[:windows]))

    def holdout(self, evaluations: Sequence[Evaluation]) -> list[Measurement]:
        """Return the KL of plans on the hold-out text, scoring each only once."""
        genomes = [e.genome for e in evaluations]
        new = [genome for genome in dict.fromkeys(genomes) if genome not in self._holdout_kls]
        if new:
            for index, evaluation in self._holdout.score(np.array(new)):
                self._holdout_kls[new[index]] = evaluation.quality["kl"]
        return [self._holdout_kls[genome] for genome in genomes]


def text_options(folder: Path) -> dict[str, str]:
    """Return WikiText-2 where it is available, and text that ships with Python otherwise."""
    place = os.environ.get(WIKITEXT2)
    if place:
        return {
            "data": str(Path(place) / "valid.txt"),
            "holdout": str(Path(place) / "test.txt"),
        }
    return {"data": str(write_topics(folder))}


def text_name() -> str:
    """Return the name of that text."""
    if os.environ.get(WIKITEXT2):
        return "WikiText-2, validation to calibrate and test as hold-out"
    return "Python's own help topics, the second half as hold-out"


def kl_cells(
    kls: Mapping[str, Measurement], gains: Mapping[str, tuple[Measurement, Verdict]]
) -> Row:
    """Return the cells of a table: the KL of each method, and what is gained on some of them.

    Args:
        kls: On hold-out text, by method.
        gains: Paired differences of KL by the method that they are from, and their verdicts.
    """
    return {
        **{method: f"{kl.value:.3f} ± {kl.standard_error:.3f}" for method, kl in kls.items()},
        **{
            f"gain on {method}": f"{gain.value:.3f} ± {gain.standard_error:.3f} ({verdict})"
            for method, (gain, verdict) in gains.items()
        },
    }


def _kl(evaluation: Evaluation) -> float:
    return evaluation.quality["kl"].value
