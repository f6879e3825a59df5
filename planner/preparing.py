"""Making a model ready: its text, statistics, ranking and sorting, and the store of its levels."""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

import numpy as np

from evaluators.calibration import Calibration
from evaluators.statistics import collect_statistics, kept_statistics
from planner.calibrating import CALIBRATION_FILE, calibrate, saved_calibration
from planner.fitting import check_space
from planner.lazily import Lazily
from planner.listener import Listener
from planner.makers import Makers, repair_name
from planner.ranked import RANKING_FILE, ranked_space, save_ranking, saved_guess
from planner.run import LEVELS_FOLDER, STATISTICS_FOLDER
from planner.settings import SearchSettings
from planner.tables import TABLE_FILE
from planner.tuning import TUNING_STATISTICS, tuning_statistics
from planner.workbench import DenseModel, Workbench
from search_spaces.allocations import AllocationName
from search_spaces.errors import RunError, SettingsError
from search_spaces.expert_levels import ExpertLevelBuilder
from search_spaces.harm import (
    Guess,
    guess_after_repair,
    guess_by_allocation,
    guess_by_depth,
    guess_by_energy,
    guess_by_ranking,
)
from search_spaces.laying_out import lay_out_variants
from search_spaces.level_builder import LevelBuilder
from search_spaces.level_store import LevelStore
from search_spaces.orders import Orders
from search_spaces.shaping import Shaper
from search_spaces.sorting import rank_units, sort_units_
from search_spaces.space import SearchSpace
from search_spaces.statistics import StatisticName, Statistics

COMMON_FILES = (CALIBRATION_FILE, TABLE_FILE)
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
    listener: Listener,
    *,
    remake: bool = True,
) -> Workbench:
    """Calibrate, rank and sort a dense model; its weights are permuted in place.

    Args:
        dense: The model, as `open_model` gives it.
        settings: Of the search.
        folder: Of the run; what is found there of an earlier preparation is used again, and what
            is made is kept there.
        listener: Told of progress.
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
        calibration=calibrate(dense, settings, folder, listener),
        folder=folder,
        level_gigabytes=settings.level_gigabytes,
        remake=remake,
        listener=listener,
    )
    statistics: Sequence[Statistics] | None = None
    ranked = (folder / RANKING_FILE).is_file()
    # a streamed model cannot be measured while some level of it is in use, so it is now
    if not ranked or (dense.structure.backbone.streamed and task.makers.changes_weights):
        statistics = task.measured()
    if not ranked:
        assert statistics is not None
        task.check_text(statistics)
        listener.stage("ranking heads and channels")
        experts = task.makers.experts
        orders = rank_units(
            dense.structure, task.makers.ranking, statistics, experts.ranking if experts else None
        )
        guess = _guess(dense, settings, task.makers, statistics, orders)
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
    listener: Listener

    @property
    def wanted(self) -> frozenset[StatisticName]:
        """The statistics that are taken of the dense model."""
        return (self.makers.for_order | self.makers.for_levels) - TUNING_STATISTICS

    def measured(self) -> Sequence[Statistics]:
        """Take statistics of the model in its own order of units."""
        self.listener.stage("measuring what goes through each layer")
        return collect_statistics(
            self.dense.structure,
            self.calibration.statistics,
            self.wanted,
            # small ones need no files: they are used once, for the ranking
            folder=self.folder / STATISTICS_FOLDER if self.makers.changes_weights else None,
            identity=self.dense.loaded.identity.fingerprint,
            on_layer=self.listener.advance,
            on_notice=self.listener.say,
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
                dense.structure, space.orders.members, statistics, text, self.listener
            )
        builder = LevelBuilder(
            dense.structure,
            statistics,
            space.orders.members,
            compensation=makers.compensation,
            sparsifier=makers.sparsifier,
            refinement=makers.refinement,
            dtype=dense.loaded.stored_dtype,
            on_notice=self.listener.say,
        )
        limit = round(self.level_gigabytes * 1e9)
        store = LevelStore(
            self.folder / LEVELS_FOLDER,
            builder,
            widths=[_widths(space, position) for position in range(len(space.sub_blocks))],
            digest=f"{dense.loaded.identity.fingerprint} {space.repair} {_orders_digest(space)}",
            limit_bytes=limit,
            on_notice=self.listener.say,
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
            self.listener.say(experts.notice)
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
            self.listener.say(
                f"levels would take {size / 1e9:.1f} GB, more than {limit / 1e9:g}: each is made "
                "when it is needed; raise --level_gigabytes, or --mlp_step for fewer"
            )
            return
        self.listener.stage("making up for heads and channels that go")
        store.build_all(on_step=self.listener.advance)
        experts = self.makers.experts
        if self.makers.sparsifier is None and (experts is None or not experts.name):
            shutil.rmtree(self.folder / STATISTICS_FOLDER, ignore_errors=True)

    def check_text(self, statistics: Sequence[Statistics]) -> None:
        """Say where the ranking leans on damping, for there are fewer tokens than inputs."""
        blocks = self.dense.structure.sub_blocks
        widest = max(len(p.units) for block in blocks for p in block.projections)
        tokens = int(statistics[0]["tokens", ""])
        if "gram" in self.makers.ranking.statistics and tokens < widest:
            self.listener.say(
                f"{tokens} tokens cannot tell {widest} inputs apart, so that the ranking leans on "
                "damping; raise `--statistics_windows`"
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


def _guess(
    dense: DenseModel,
    settings: SearchSettings,
    makers: Makers,
    statistics: Sequence[Statistics],
    orders: Orders,
) -> Guess:
    """Guess what cuts do, as the settings say.

    Raises:
        SettingsError: Where the ranking is to guess and cannot be compared across sub-blocks.
    """
    structure, name = dense.structure, settings.guess
    variants = lay_out_variants(
        structure.sub_blocks, settings.choices, settings.patterns, settings.mlp_step
    )
    energy = guess_by_energy(structure, statistics, variants)
    if makers.fits:
        energy = guess_after_repair(energy, structure, statistics, orders.members)
    if makers.depth is not None:
        whole = settings.choices.layers
        return guess_by_depth(energy, structure, statistics, makers.depth, whole_layers=whole)
    if name in get_args(AllocationName):
        method = cast("AllocationName", name)
        return guess_by_allocation(energy, structure, statistics, variants, method)
    if name == "energy":
        return energy
    if not makers.ranking.comparable:
        raise SettingsError(
            "`guess ranking` needs a ranking whose scores compare across layers, got "
            f"`{settings.ranking}`; set `--ranking flap` or `--guess energy`"
        )
    return guess_by_ranking(energy, structure, statistics, makers.ranking)


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
