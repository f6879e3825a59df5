"""Preparing a model for a search: calibration text, statistics, importance order, weights."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evaluators.data.windows import Calibration
from planner.preparation.calibration import calibrate, saved_calibration
from planner.preparation.dense_model import DenseModel, arithmetic_of
from planner.preparation.order_file import load_prior, load_space, read_order, save_order
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.prior import make_prior, missed_by_stand_ins
from planner.preparation.pruning_methods import PruningMethods, weights_digest_of
from planner.preparation.run_statistics import RunStatistics
from planner.preparation.validate_space import check_space
from planner.preparation.weight_needs import cache_bound, fitting_step
from planner.preparation.weights import RunWeights
from planner.runs.folder import CALIBRATION_FILE, LATENCY_FILE, ORDER_FILE
from planner.settings.search import SearchSettings
from search_spaces.errors import RunError
from search_spaces.importance.order import rank_units
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.space.number_format import SOURCE, STORED, file_format
from search_spaces.space.space import SearchSpace
from search_spaces.statistics import LayerStatistics, Statistics
from search_spaces.surgery.sort import sort_units_

logger = logging.getLogger(__name__)

COMMON_FILES = (CALIBRATION_FILE, LATENCY_FILE)
"""What all runs on the same model and text share of their preparation."""
PREPARED_FILES = (*COMMON_FILES, ORDER_FILE)
"""What a run keeps of its preparation, as far as it needed it, besides statistics and weights."""


def preparation_key(settings: SearchSettings) -> tuple[object, ...]:
    """Return what runs of one model must have in common to share a prepared model."""
    choices = settings.space
    # of what is dropped or left out whole, only that layers are says something of the preparation
    options = replace(choices, heads=False, drops=False, experts=False)
    resizes = choices.heads or choices.channels
    names = (settings.importance, settings.sparsifier, settings.quantizer, settings.prior)
    methods = (*names, settings.compensate)
    experts = (settings.expert_importance, settings.pretrained_router)
    space = (options, settings.patterns, settings.formats, settings.mlp_step, settings.loads_in)
    return (*methods, *experts, *space, resizes)


def prepare(
    dense: DenseModel,
    settings: SearchSettings,
    folder: Path,
    progress: Progress,
    *,
    scored_in: str = "",
    restore_statistics: bool = False,
) -> PreparedModel:
    """Calibrate, rank and sort a dense model; its weights are permuted in place.

    Args:
        dense: The model, as `open_model` returns it.
        settings: Of the search.
        folder: Of the run; what an earlier preparation left there is used again, and what is
            computed is stored there.
        progress: Receives stages and progress.
        scored_in: Arithmetic that the run's plans were scored in; empty: this model's. In another
            one, pruned weights that are no longer on disk would differ, and are not built again.
        restore_statistics: Whether lost statistics that an export may build weights from are
            measured again, even if nothing needs them now.

    Raises:
        DataError: If the calibration text cannot be used.
        MissingExtraError: If a number format takes a package that is not installed.
        RunError: If weights or orders are lost that must not be built again.
        SettingsError: If windows are longer than the model reads, a streamed model would have to
            write the text, or a sparsity pattern does not fit its matrices.
    """
    check_space(dense, settings)
    _check_codecs(dense, settings)
    can_rebuild = scored_in in {"", arithmetic_of(dense)}
    methods = PruningMethods.of(settings, dense.structure)
    calibration = calibrate(dense, settings, folder, progress)
    measured = RunStatistics(
        dense=dense,
        settings=settings,
        methods=methods,
        tokens=calibration.fitted,
        folder=folder,
        scored_in="" if can_rebuild else scored_in,
        progress=progress,
    )
    statistics: Sequence[Statistics] | None = None
    has_order = is_ranked(folder / ORDER_FILE, can_rebuild=can_rebuild)
    # a streamed model cannot be measured while pruned weights of it are in use, so it is now
    if not has_order or (dense.structure.backbone.streamed and methods.changes_weights):
        statistics = measured.measure()
    if not has_order:
        assert statistics is not None
        measured.warn_if_short(statistics)
        _rank(measured, statistics, cache_bound(settings, folder))
    space = load_space(
        dense, settings, folder, weights_digest=weights_digest_of(settings, methods, calibration)
    )
    return _sorted(
        measured,
        calibration,
        space,
        statistics=statistics,
        restore_statistics=restore_statistics,
    )


def join(dense: DenseModel, settings: SearchSettings, folder: Path) -> PreparedModel:
    """Prepare a dense model as another process did, whose folder is only read.

    Weights that are not there are built when they are needed.

    Args:
        dense: The model, as `open_model` returns it; its weights are permuted in place.
        settings: Of the search.
        folder: That `prepare` was given, and has filled.

    Raises:
        RunError: If something is missing there, or damaged.
    """
    calibration = saved_calibration(folder)
    measured = RunStatistics(
        dense=dense,
        settings=settings,
        methods=PruningMethods.of(settings, dense.structure),
        tokens=calibration.fitted,
        folder=folder,
        scored_in="",
        progress=NO_PROGRESS,
    )
    return _sorted(measured, calibration, run_space(dense, settings, folder), is_guest=True)


def _sorted(
    measured: RunStatistics,
    calibration: Calibration,
    space: SearchSpace,
    *,
    statistics: Sequence[Statistics] | None = None,
    is_guest: bool = False,
    restore_statistics: bool = False,
) -> PreparedModel:
    """Sort the model as its space orders it, and put all that a search needs together.

    Args:
        measured: Knows the model and its run, and measures what is not at hand.
        calibration: The text.
        space: The search space.
        statistics: Those at hand; none: they are read or measured when weights first need them,
            for most runs find all pruned weights in their cache.
        is_guest: Whether the folder is another process's.
        restore_statistics: As `RunWeights.layer_builder` takes it.
    """
    dense, folder = measured.dense, measured.folder
    sorted_model = sort_units_(dense.structure, space.orders)
    weights = RunWeights(
        loaded=dense.loaded,
        sorted_model=sorted_model,
        methods=measured.methods,
        space=space,
        statistics=LayerStatistics(
            lambda: measured.read_or_measure(sorted_model) if statistics is None else statistics
        ),
        tokens=calibration.fitted,
        folder=folder,
        limit_bytes=cache_bound(measured.settings, folder),
        progress=measured.progress,
        is_guest=is_guest,
    )
    return PreparedModel(
        dense=dense,
        sorted_model=sorted_model,
        space=space,
        calibration=calibration,
        prior=load_prior(folder / ORDER_FILE, space),
        layer_builder=weights.layer_builder(
            # in another arithmetic than the run's they would differ
            prebuild=not (is_guest or measured.scored_in),
            restore_statistics=restore_statistics,
        ),
        weight_record=weights.record,
        methods=measured.methods,
        folder=folder,
    )


def _check_codecs(dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse number formats that matrices cannot be put into here.

    Raises:
        MissingExtraError: If one takes a package that is not installed.
    """
    offered = {each for of_one in dense.holds.formats.values() for each in of_one.formats}
    if SOURCE in offered and dense.loaded.gguf is not None:
        offered |= {file_format(kind).anew for kind in dense.loaded.gguf.types.values()}
    for number_format in offered - {SOURCE, STORED}:
        codec_of(number_format).check_installed(weighted=settings.quantizer != "rtn")


def is_ranked(path: Path, *, can_rebuild: bool) -> bool:
    """Return whether a run holds its order and prior; damaged ones are to be made again.

    Raises:
        RunError: If they are damaged or missing, and must not be made again.
    """
    if can_rebuild and not path.exists():
        return False
    try:
        read_order(path)
    except RunError:
        if not can_rebuild:
            raise
        logger.warning("`%s` is damaged; made anew", path)
        return False
    return True


def _rank(measured: RunStatistics, statistics: Sequence[Statistics], limit_bytes: int) -> None:
    """Order units by importance, compute the prior, choose the step of widths, and store all."""
    measured.progress.stage("ordering heads and channels")
    methods = measured.methods
    orders = rank_units(
        measured.dense.structure,
        methods.unit_importance,
        statistics,
        methods.experts.importance,
    )
    prior = make_prior(measured.dense, measured.settings, methods, statistics, orders)
    if methods.stands_in:
        measured.progress.stage("fitting stand-ins for what may be dropped")
        missed = missed_by_stand_ins(measured.dense, statistics, measured.progress)
        prior = replace(prior, missed=missed)
    step = None
    if methods.compensation is not None:
        step = fitting_step(measured.dense, measured.settings, limit_bytes)
    save_order(measured.folder / ORDER_FILE, measured.dense, orders, prior, step)


def run_space(dense: DenseModel, settings: SearchSettings, folder: Path) -> SearchSpace:
    """Build the search space of a run from what its folder holds.

    Raises:
        RunError: If the order of units or the text is missing, damaged or another model's.
    """
    methods = PruningMethods.of(settings, dense.structure)
    weights_digest = ""
    if methods.changes_weights:
        weights_digest = weights_digest_of(settings, methods, saved_calibration(folder))
    return load_space(dense, settings, folder, weights_digest=weights_digest)


def with_search_space(
    prepared: PreparedModel, settings: SearchSettings, folder: Path
) -> PreparedModel:
    """Return a prepared model with another search space; model, order and text are shared.

    Args:
        prepared: The model.
        settings: Of the search to come, equal by `preparation_key` to those it was prepared with.
        folder: Of its run, which must hold the order of units.
    """
    space = load_space(
        prepared.dense, settings, folder, weights_digest=prepared.space.weights_digest
    )
    return replace(prepared, space=space)
