"""Making a model ready: its text, statistics, ranking and sorting, and the store of its levels."""

import hashlib
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluators.collectors import collect_statistics, kept_statistics
from evaluators.data.windows import Calibration
from planner.preparation.calibration import calibrate, saved_calibration
from planner.preparation.dense_model import DenseModel
from planner.preparation.lazy import Lazily
from planner.preparation.prepared_model import Workbench
from planner.preparation.prior import make_prior
from planner.preparation.pruning_methods import Makers, repair_name
from planner.preparation.ranking_file import ranked_space, save_ranking, saved_guess
from planner.preparation.student_statistics import TUNING_STATISTICS, tuning_statistics
from planner.preparation.validate_space import check_space
from planner.runs.folder import (
    CALIBRATION_FILE,
    LATENCY_FILE,
    LEVELS_FOLDER,
    RANKING_FILE,
    STATISTICS_FOLDER,
)
from planner.settings.search import SearchSettings
from search_spaces.errors import RunError
from search_spaces.importance.order import rank_units
from search_spaces.progress import Progress
from search_spaces.pruned_weights.builder import LevelBuilder
from search_spaces.pruned_weights.cache import LevelStore
from search_spaces.pruned_weights.expert_builder import ExpertLevelBuilder
from search_spaces.space.space import SearchSpace
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.surgery.apply import Shaper
from search_spaces.surgery.sort import sort_units_

logger = logging.getLogger(__name__)

COMMON_FILES = (CALIBRATION_FILE, LATENCY_FILE)
"""What every run on the same model and text shares of its preparation."""
PREPARED_FILES = (*COMMON_FILES, RANKING_FILE)
"""What a run keeps of its preparation, as far as it needed it, beside statistics and levels."""


def preparation(settings: SearchSettings) -> tuple[object, ...]:
    """Tell runs of one model apart that cannot share a workbench."""
    choices = settings.choices
    narrows, whole = choices.heads or choices.channels, choices.layers
    makers = (settings.ranking, settings.sparsifier, settings.compensate, settings.guess)
    experts = (
        settings.expert_ranking,
        settings.pretrained_router,
        choices.channels,
        choices.top_k,
    )
    return (*makers, *experts, settings.patterns, settings.mlp_step, narrows, whole)


def prepare(
    dense: DenseModel,
    settings: SearchSettings,
    folder: Path,
    progress: Progress,
    *,
    remake: bool = True,
) -> Workbench:
    """Calibrate, rank and sort a dense model; its weights are permuted in place.

    Args:
        dense: The model, as `open_model` gives it.
        settings: Of the search.
        folder: Of the run; what is found there of an earlier preparation is used again, and what
            is made is kept there.
        progress: Told of progress.
        remake: Whether weights that are not on disk any more may be made again: in other
            arithmetic than the run's they would come out otherwise.

    Raises:
        DataError: Where the calibration text cannot be used.
        RunError: Where weights are gone that may not be made again.
        SettingsError: Where windows are longer than the model reads, a streamed model would
            have to write the text, or a pattern of sparsity does not fit its matrices.
    """
    check_space(dense, settings)
    task = _Task(
        dense=dense,
        makers=Makers.of(settings, dense.structure),
        calibration=calibrate(dense, settings, folder, progress),
        folder=folder,
        level_gigabytes=settings.level_gigabytes,
        remake=remake,
        progress=progress,
    )
    statistics: Sequence[Statistics] | None = None
    ranked = (folder / RANKING_FILE).is_file()
    # a streamed model cannot be measured while some level of it is in use, so it is now
    if not ranked or (dense.structure.backbone.streamed and task.makers.changes_weights):
        statistics = task.measured()
    if not ranked:
        assert statistics is not None
        task.check_text(statistics)
        progress.stage("ranking heads and channels")
        experts = task.makers.experts
        orders = rank_units(
            dense.structure, task.makers.ranking, statistics, experts.ranking if experts else None
        )
        guess = make_prior(dense, settings, task.makers, statistics, orders)
        save_ranking(folder / RANKING_FILE, dense, orders, guess)
    repair = repair_name(settings, task.makers, task.calibration)
    space = ranked_space(dense, settings, folder, repair=repair)
    sort_units_(dense.structure, space.orders)
    if statistics is None:  # only levels that are not on disk any more need them
        statistics = Lazily(lambda: task.measured_sorted(space))
    return Workbench(
        dense=dense,
        space=space,
        calibration=task.calibration,
        guess=saved_guess(folder / RANKING_FILE, space),
        shaper=task.shaper(space, statistics),
    )


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is prepared, and with what."""

    dense: DenseModel
    makers: Makers
    calibration: Calibration
    folder: Path
    level_gigabytes: float
    remake: bool
    progress: Progress

    @property
    def wanted(self) -> frozenset[StatisticName]:
        """The statistics that are taken of the dense model."""
        return (self.makers.for_order | self.makers.for_levels) - TUNING_STATISTICS

    def measured(self) -> Sequence[Statistics]:
        """Take statistics of the model in its own order of units."""
        self.progress.stage("measuring what goes through each layer")
        return collect_statistics(
            self.dense.structure,
            self.calibration.statistics,
            self.wanted,
            # small ones need no files: they are used once, for the ranking
            folder=self.folder / STATISTICS_FOLDER if self.makers.changes_weights else None,
            identity=self.dense.loaded.identity.fingerprint,
            progress=self.progress,
        )

    def measured_sorted(self, space: SearchSpace) -> Sequence[Statistics]:
        """Take them of a model that is sorted already, where they are not in their files."""
        kept = kept_statistics(
            self.dense.structure,
            self.calibration.statistics,
            self.wanted,
            self.folder / STATISTICS_FOLDER,
            self.dense.loaded.identity.fingerprint,
        )
        if kept is not None:
            return kept
        if not self.remake:
            raise RunError(
                f"an export needs the very weights that were scored, and `{self.folder}` lacks "
                "some, which this machine's float32 would make otherwise; go on with the search, "
                "`--resume` and more `--tokens`, where it was made"
            )
        structure = self.dense.structure
        sort_units_(structure, space.orders.inverse())
        try:
            return self.measured()
        finally:
            sort_units_(structure, space.orders)

    def shaper(self, space: SearchSpace, statistics: Sequence[Statistics]) -> Shaper:
        """Give what shapes layers; widths are made up for now, patterns when they come up."""
        dense, makers = self.dense, self.makers
        if not makers.changes_weights:
            return Shaper(dense.structure, space.variants)
        if makers.for_levels & TUNING_STATISTICS:
            text = self.calibration.statistics
            statistics = tuning_statistics(
                dense.structure, space.orders.members, statistics, text, self.progress
            )
        builder = LevelBuilder(
            dense.structure,
            statistics,
            space.orders.members,
            compensation=makers.compensation,
            sparsifier=makers.sparsifier,
            refinement=makers.refinement,
            dtype=dense.loaded.stored_dtype,
        )
        limit = round(self.level_gigabytes * 1e9)
        store = LevelStore(
            self.folder / LEVELS_FOLDER,
            builder,
            widths=[_widths(space, position) for position in range(len(space.sub_blocks))],
            digest=f"{dense.loaded.identity.fingerprint} {space.repair} {_orders_digest(space)}",
            limit_bytes=limit,
        )
        if makers.compensation is not None and self.remake:
            self._build(store, limit)
        return Shaper(
            dense.structure, space.variants, store, self._expert_levels(space, statistics)
        )

    def _expert_levels(
        self, space: SearchSpace, statistics: Sequence[Statistics]
    ) -> ExpertLevelBuilder | None:
        """Give what makes weights of experts, where they are not all the dense model's own."""
        experts = self.makers.experts
        if experts is None or not experts.name:
            return None
        if experts.notice:
            logger.info(experts.notice)
        return ExpertLevelBuilder(
            self.dense.structure,
            statistics,
            space.orders,
            merging=experts.merging,
            sparsifier=experts.sparsifier,
            dtype=self.dense.loaded.stored_dtype,
        )

    def _build(self, store: LevelStore, limit: int) -> None:
        """Make the levels of all widths, where they fit; statistics are not needed then."""
        size = store.dense_bytes
        if size > limit:
            logger.warning(
                "levels would take %.1f GB, more than %g: each is made when it is needed; raise "
                "--level_gigabytes, or --mlp_step for fewer",
                size / 1e9,
                limit / 1e9,
            )
            return
        self.progress.stage("making up for heads and channels that go")
        store.build_all(progress=self.progress)
        experts = self.makers.experts
        if self.makers.sparsifier is None and (experts is None or not experts.name):
            shutil.rmtree(self.folder / STATISTICS_FOLDER, ignore_errors=True)

    def check_text(self, statistics: Sequence[Statistics]) -> None:
        """Say where the ranking leans on damping, for there are fewer tokens than inputs."""
        blocks = self.dense.structure.sub_blocks
        widest = max(len(p.units) for block in blocks for p in block.projections)
        tokens = int(statistics[0]["tokens", ""])
        if "gram" in self.makers.ranking.statistics and tokens < widest:
            logger.warning(
                "%d tokens cannot tell %d inputs apart, so that the ranking leans on damping; "
                "raise `--statistics_windows`",
                tokens,
                widest,
            )


def _widths(space: SearchSpace, position: int) -> tuple[int, ...]:
    """Give the numbers of units that the levels of a sub-block keep, all and none left out."""
    whole = space.sub_blocks[position].unit_count
    if space.sub_blocks[position].experts is not None:  # theirs are made when they are needed
        return ()
    kept = {
        form % (whole + 1)
        for site in space.sites
        for form in site.forms_by_target.get(position, ())
    }
    return tuple(sorted(kept - {0, whole}))


def _orders_digest(space: SearchSpace) -> str:
    every = [*space.orders, *space.orders.channels.values()]
    content = b"".join(order.astype(np.int64).tobytes() for order in every)
    return hashlib.sha256(content).hexdigest()[:10]


def run_space(dense: DenseModel, settings: SearchSettings, folder: Path) -> SearchSpace:
    """Lay out the space of a run from what its folder keeps.

    Raises:
        RunError: Where the ranking or the text is missing, damaged or another model's.
    """
    makers = Makers.of(settings, dense.structure)
    repair = ""
    if makers.changes_weights:
        repair = repair_name(settings, makers, saved_calibration(folder))
    return ranked_space(dense, settings, folder, repair=repair)


def laid_out_for(bench: Workbench, settings: SearchSettings, folder: Path) -> Workbench:
    """Give the same model another space: what is loaded, sorted and calibrated is shared.

    Args:
        bench: A workbench.
        settings: Of the search to come; all but what may be cut as those of the workbench.
        folder: Of its run, which must hold the ranking.
    """
    space = ranked_space(bench.dense, settings, folder, repair=bench.space.repair)
    return replace(bench, space=space)
