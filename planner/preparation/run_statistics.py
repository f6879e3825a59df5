"""The calibration statistics of a run: measured, or read from its folder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from evaluators.collectors import collect_statistics, stored_statistics
from planner.preparation.dense_model import DenseModel, arithmetic_of
from planner.preparation.pruning_methods import PruningMethods
from planner.preparation.student_statistics import TUNING_STATISTICS
from planner.runs.folder import STATISTICS_FOLDER
from planner.runs.resume_command import resume_command
from planner.settings.search import SearchSettings
from search_spaces.errors import RunError
from search_spaces.progress import Progress
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import StatisticName, Statistics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunStatistics:
    """What statistics a run takes of its dense model, and on which text."""

    dense: DenseModel
    settings: SearchSettings
    methods: PruningMethods
    tokens: Tensor
    """Token ids ``(windows, tokens)`` to measure on."""
    folder: Path
    """Of the run."""
    scored_in: str
    """Other arithmetic that the run's plans were scored in, so that statistics which are no longer
    on disk must not be measured again; empty: it is this model's."""
    progress: Progress

    @property
    def names(self) -> frozenset[StatisticName]:
        """The statistics that are taken of the dense model."""
        methods = self.methods
        return (methods.importance_statistics | methods.weight_statistics) - TUNING_STATISTICS

    def measure(self) -> Sequence[Statistics]:
        """Measure the model with its units in their own order."""
        self.progress.stage("measuring what goes through each layer")
        return collect_statistics(
            self.dense.structure,
            self.tokens,
            self.names,
            # small ones need no files: they are used once, to rank units by importance
            folder=self.folder / STATISTICS_FOLDER if self.methods.changes_weights else None,
            identity=self.dense.loaded.identity.fingerprint,
            progress=self.progress,
        )

    def read_or_measure(self, sorted_model: SortedModel) -> Sequence[Statistics]:
        """Read the statistics of a model that is sorted already, or measure them again.

        Raises:
            RunError: If they are lost and must not be measured again.
        """
        stored = stored_statistics(
            self.dense.structure,
            self.tokens,
            self.names,
            self.folder / STATISTICS_FOLDER,
            self.dense.loaded.identity.fingerprint,
        )
        if stored is not None:
            return stored
        if self.scored_in:
            error = RunError(
                f"an export needs the very weights that were scored, and `{self.folder}` lacks "
                f"some: they were made in {self.scored_in}, and would be others in "
                f"{arithmetic_of(self.dense)}; rebuild them by the command beside this, then "
                "export again"
            )
            error.add_note(resume_command(self.settings, self.folder))
            raise error
        with sorted_model.own_order():
            return self.measure()

    def warn_if_short(self, statistics: Sequence[Statistics]) -> None:
        """Warn if importances depend on damping, because there are fewer tokens than inputs."""
        components = self.dense.structure.components
        widest = max(len(p.units) for component in components for p in component.projections)
        token_count = int(statistics[0]["tokens", ""])
        if "gram" in self.methods.unit_importance.statistics and token_count < widest:
            logger.warning(
                "%d tokens cannot tell %d inputs apart, so that importances depend on damping; "
                "raise `--calibration_windows`",
                token_count,
                widest,
            )
