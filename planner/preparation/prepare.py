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
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.prior import make_prior
from planner.preparation.pruning_methods import PruningMethods, weights_digest_of
from planner.preparation.ranking_file import ranked_space, save_ranking, saved_prior
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
from search_spaces.pruned_weights.builder import WeightBuilder
from search_spaces.pruned_weights.cache import WeightCache
from search_spaces.pruned_weights.expert_builder import ExpertWeightBuilder
from search_spaces.space.space import SearchSpace
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.surgery.apply import LayerBuilder
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
    methods = (settings.importance, settings.sparsifier, settings.compensate, settings.prior)
    experts = (
        settings.expert_importance,
        settings.pretrained_router,
        choices.channels,
        choices.top_k,
    )
    return (*methods, *experts, settings.patterns, settings.mlp_step, narrows, whole)


def prepare(
    dense: DenseModel,
    settings: SearchSettings,
    folder: Path,
    progress: Progress,
    *,
    remake: bool = True,
) -> PreparedModel:
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
        methods=PruningMethods.of(settings, dense.structure),
        calibration=calibrate(dense, settings, folder, progress),
        folder=folder,
        weight_cache_gigabytes=settings.weight_cache_gigabytes,
        remake=remake,
        progress=progress,
    )
    statistics: Sequence[Statistics] | None = None
    ranked = (folder / RANKING_FILE).is_file()
    # a streamed model cannot be measured while some level of it is in use, so it is now
    if not ranked or (dense.structure.backbone.streamed and task.methods.changes_weights):
        statistics = task.measured()
    if not ranked:
        assert statistics is not None
        task.check_text(statistics)
        progress.stage("ranking heads and channels")
        experts = task.methods.experts
        orders = rank_units(
            dense.structure,
            task.methods.unit_importance,
            statistics,
            experts.importance if experts else None,
        )
        prior = make_prior(dense, settings, task.methods, statistics, orders)
        save_ranking(folder / RANKING_FILE, dense, orders, prior)
    weights_digest = weights_digest_of(settings, task.methods, task.calibration)
    space = ranked_space(dense, settings, folder, weights_digest=weights_digest)
    sort_units_(dense.structure, space.orders)
    if statistics is None:  # only levels that are not on disk any more need them
        statistics = Lazily(lambda: task.measured_sorted(space))
    return PreparedModel(
        dense=dense,
        space=space,
        calibration=task.calibration,
        prior=saved_prior(folder / RANKING_FILE, space),
        layer_builder=task.layer_builder(space, statistics),
    )


@dataclass(frozen=True, kw_only=True)
class _Task:
    """What is prepared, and with what."""

    dense: DenseModel
    methods: PruningMethods
    calibration: Calibration
    folder: Path
    weight_cache_gigabytes: float
    remake: bool
    progress: Progress

    @property
    def wanted(self) -> frozenset[StatisticName]:
        """The statistics that are taken of the dense model."""
        return (self.methods.for_order | self.methods.for_levels) - TUNING_STATISTICS

    def measured(self) -> Sequence[Statistics]:
        """Take statistics of the model in its own order of units."""
        self.progress.stage("measuring what goes through each layer")
        return collect_statistics(
            self.dense.structure,
            self.calibration.statistics,
            self.wanted,
            # small ones need no files: they are used once, for the ranking
            folder=self.folder / STATISTICS_FOLDER if self.methods.changes_weights else None,
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

    def layer_builder(self, space: SearchSpace, statistics: Sequence[Statistics]) -> LayerBuilder:
        """Give what shapes layers; widths are made up for now, patterns when they come up."""
        dense, methods = self.dense, self.methods
        if not methods.changes_weights:
            return LayerBuilder(dense.structure, space.block_options)
        if methods.for_levels & TUNING_STATISTICS:
            text = self.calibration.statistics
            statistics = tuning_statistics(
                dense.structure, space.orders.members, statistics, text, self.progress
            )
        builder = WeightBuilder(
            dense.structure,
            statistics,
            space.orders.members,
            compensation=methods.compensation,
            sparsifier=methods.sparsifier,
            refinement=methods.refinement,
            dtype=dense.loaded.stored_dtype,
        )
        limit = round(self.weight_cache_gigabytes * 1e9)
        store = WeightCache(
            self.folder / LEVELS_FOLDER,
            builder,
            widths=[_widths(space, position) for position in range(len(space.components))],
            digest=" ".join(
                (dense.loaded.identity.fingerprint, space.weights_digest, _orders_digest(space))
            ),
            limit_bytes=limit,
        )
        if methods.compensation is not None and self.remake:
            self._build(store, limit)
        return LayerBuilder(
            dense.structure, space.block_options, store, self._expert_levels(space, statistics)
        )

    def _expert_levels(
        self, space: SearchSpace, statistics: Sequence[Statistics]
    ) -> ExpertWeightBuilder | None:
        """Give what makes weights of experts, where they are not all the dense model's own."""
        experts = self.methods.experts
        if experts is None or not experts.name:
            return None
        if experts.notice:
            logger.info(experts.notice)
        return ExpertWeightBuilder(
            self.dense.structure,
            statistics,
            space.orders,
            merging=experts.merging,
            sparsifier=experts.sparsifier,
            dtype=self.dense.loaded.stored_dtype,
        )

    def _build(self, store: WeightCache, limit: int) -> None:
        """Make the levels of all widths, where they fit; statistics are not needed then."""
        size = store.dense_bytes
        if size > limit:
            logger.warning(
                "levels would take %.1f GB, more than %g: each is made when it is needed; raise "
                "--weight_cache_gigabytes, or --mlp_step for fewer",
                size / 1e9,
                limit / 1e9,
            )
            return
        self.progress.stage("making up for heads and channels that go")
        store.build_all(progress=self.progress)
        experts = self.methods.experts
        if self.methods.sparsifier is None and (experts is None or not experts.name):
            shutil.rmtree(self.folder / STATISTICS_FOLDER, ignore_errors=True)

    def check_text(self, statistics: Sequence[Statistics]) -> None:
        """Say where the ranking leans on damping, for there are fewer tokens than inputs."""
        components = self.dense.structure.components
        widest = max(len(p.units) for component in components for p in component.projections)
        tokens = int(statistics[0]["tokens", ""])
        if "gram" in self.methods.unit_importance.statistics and tokens < widest:
            logger.warning(
                "%d tokens cannot tell %d inputs apart, so that the ranking leans on damping; "
                "raise `--calibration_windows`",
                tokens,
                widest,
            )


def _widths(space: SearchSpace, position: int) -> tuple[int, ...]:
    """Give the numbers of units that the levels of a component keep, all and none left out."""
    whole = space.components[position].unit_count
    if space.components[position].experts is not None:  # theirs are made when they are needed
        return ()
    kept = {
        configuration % (whole + 1)
        for site in space.sites
        for configuration in site.configurations_by_target.get(position, ())
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
    methods = PruningMethods.of(settings, dense.structure)
    weights_digest = ""
    if methods.changes_weights:
        weights_digest = weights_digest_of(settings, methods, saved_calibration(folder))
    return ranked_space(dense, settings, folder, weights_digest=weights_digest)


def laid_out_for(prepared: PreparedModel, settings: SearchSettings, folder: Path) -> PreparedModel:
    """Give the same model another space: what is loaded, sorted and calibrated is shared.

    Args:
        prepared: A workbench.
        settings: Of the search to come; all but what may be cut as those of the workbench.
        folder: Of its run, which must hold the ranking.
    """
    space = ranked_space(
        prepared.dense, settings, folder, weights_digest=prepared.space.weights_digest
    )
    return replace(prepared, space=space)
