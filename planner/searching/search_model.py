"""One search from start to end: prepare, search, re-score the front on fresh and held-out text."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from evaluators.runtime.allocator import release_pages
from planner.preparation.calibration import check_saved_text, text_digest, warn_of_changed_text
from planner.preparation.dense_model import (
    DenseModel,
    arithmetic_of,
    as_begun,
    open_model,
    scoring_note,
)
from planner.preparation.latency_tables import check_request, check_runtime, find_table, workload
from planner.preparation.order_file import order_digest
from planner.preparation.prepare import prepare
from planner.preparation.prepared_model import PreparedModel
from planner.preparation.space_file import describe_space
from planner.runs.folder import ORDER_FILE
from planner.runs.metadata import RunMetadata
from planner.runs.records import SearchEffort
from planner.runs.run_store import RunStore
from planner.runs.space_description import save_space
from planner.searchers import make_searcher
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Text
from planner.searching.baselines import baseline_genomes, budget_at_knee
from planner.searching.best_so_far import BestSoFar
from planner.searching.forecast import check_limits, outlook, search_limits
from planner.searching.loop import SearchLoop
from planner.searching.objectives import Objectives
from planner.searching.problem import Problem
from planner.searching.recorded_front import RecordedFront
from planner.searching.recorded_progress import RecordedProgress
from planner.searching.rescoring import complete_front, rescore_front, score_baselines
from planner.searching.scorer import Scorer, search_scorer
from planner.searching.spending import OnProgress, SearchProgress, StopReason
from planner.settings.places import located
from planner.settings.search import SearchSettings
from planner.workers.backends import check_stages, check_workers, scoring_backends
from search_spaces.errors import InputError, ModelError
from search_spaces.progress import Progress
from search_spaces.space.block_options import FORMAT_DIMENSIONS

logger = logging.getLogger(__name__)

_STOP_SENTENCES: Mapping[StopReason, str] = {
    "evaluations": "all plans that were asked for are scored",
    "tokens": "stopped at the limit on tokens",
    "minutes": "stopped at the limit on minutes: another run may come further",
    "exhausted": "stopped: the searcher proposes nothing new",
}


def run_search(
    settings: SearchSettings,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
    is_demo: bool = False,
) -> None:
    """Search with settings that were checked, and leave a run on disk; see `open_run`."""
    with open_run(out, settings, resume=resume, is_demo=is_demo) as run:
        run.check_search()
        search_prepared(run, open_prepared(run, progress), progress)
    release_pages()


@contextmanager
def open_run(
    out: Path,
    settings: SearchSettings,
    *,
    resume: bool,
    is_demo: bool = False,
    is_kept: bool = True,
) -> Iterator[RunStore]:
    """Open a run to search; a new one in which nothing gets scored leaves its folder empty.

    Args:
        out: The run's folder.
        settings: Of the search.
        resume: Whether to go on with the run in the folder.
        is_demo: Whether to mark a new run as one that the demo may replace.
        is_kept: Whether it stays; else nothing of it does, however it ends.

    Raises:
        RunError: If the folder holds something else, or not the run to resume.
        OutputError: If the folder cannot be written to.
        SettingsError: If more workers are asked for than the machine can have any use of.
    """
    check_workers(settings)
    settings = located(settings)
    opened = (
        RunStore.resume(out, settings)
        if resume
        else RunStore.create(out, settings, is_demo=is_demo)
    )
    with opened as run:
        try:
            check_limits(run)
            yield run
        except BaseException as error:
            # code of a model may exit, too
            is_refused = isinstance(error, InputError | SystemExit) and run.is_new
            if not is_kept or (is_refused and run.is_bare):
                run.discard()  # nothing was searched: the corrected command may use the folder
            else:
                run.record_end(error)
            raise
        if not is_kept:
            run.discard()


def open_prepared(run: RunStore, progress: Progress, *, begun: str | None = None) -> PreparedModel:
    """Load and prepare the model of a run, with what the run's folder holds of its preparation.

    Args:
        run: The run.
        progress: Receives stages and progress.
        begun: Arithmetic in which others began that it is compared with, if any has.

    Raises:
        InputError: If the user must correct something.
    """
    progress = RecordedProgress(run, progress, "preparing")
    begun = run.metadata.arithmetic or begun
    logger.info(scoring_note(run.settings, begun))
    check_runtime(run.settings)
    dense = open_model(as_begun(run.settings.streamed_in_pipeline, begun), progress)
    check_stages(run.settings, dense.structure)
    check_resumable(run, dense)
    if run.is_new:
        check_request(dense, workload(run.settings))
    else:
        warn_of_changed_text(run)
    if run.settings.budget is not None and run.settings.budget.measured:
        table = find_table(dense, run.settings, run.folder, progress)
        dense = replace(dense, costs=dense.costs.timed(table))
    return prepare(dense, run.settings, run.folder, progress, restore_statistics=True)


def check_resumable(run: RunStore, dense: DenseModel) -> None:
    """Refuse to resume a run of another model, number format or device.

    Raises:
        RunError: If it is one.
    """
    run.check_model(dense.loaded.identity)
    check_saved_text(run)
    run.check_arithmetic(arithmetic_of(dense))
    run.keep_settings()
    run.begin_session()


def search_prepared(
    run: RunStore,
    prepared: PreparedModel,
    progress: Progress,
    *,
    with_baselines: bool = True,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Search a prepared model and re-score the front.

    Args:
        run: New or to be resumed; its settings decide.
        prepared: The model, with the search space of these settings.
        progress: Receives stages and progress.
        with_baselines: Whether baselines are scored too.
        on_progress: Called as a batch of plans begins on a rung, and as each of them lands.

    Raises:
        BudgetError: If no plan can meet the budget.
        RunError: If the run's latency table is another one.
        ModelError: If no plan could be scored.
    """
    run.check_order(order_digest(run.folder / ORDER_FILE))
    run.check_genomes(prepared.space.top_levels.tolist())
    problem = Problem.of(run.settings, prepared)
    if prepared.dense.costs.table is not None:
        run.check_latency(prepared.dense.costs.table.digest)
    space = describe_space(prepared.space, prepared.dense.costs)
    save_space(run.folder, space)
    digest = text_digest(prepared.calibration)
    run.check_text(digest)
    run.record_metadata(
        RunMetadata(
            dense=problem.dense,
            smallest=problem.smallest,
            cost_names=problem.cost_names,
            text=prepared.calibration.source,
            text_digest=digest,
            space_digest=space.digest,
        )
    )

    with scoring_backends(run.settings, prepared) as backends:
        recorded = RecordedProgress(run, progress, "searching", backends)
        scorer = search_scorer(prepared, run.settings, backends)
        spent = _scored(
            run,
            scorer,
            problem,
            recorded,
            with_baselines=with_baselines,
            on_progress=on_progress,
        )
        del scorer  # one evaluator is in memory at a time
        _check_scored(run)
        recorded.enter("rescoring")
        rescore_front(run, prepared, problem, backends, recorded)
    run.record_finish(spent)


def _scored(
    run: RunStore,
    scorer: Scorer,
    problem: Problem,
    progress: RecordedProgress,
    *,
    with_baselines: bool,
    on_progress: OnProgress,
) -> SearchEffort:
    """Score all that needs the search text."""
    prepared = scorer.prepared
    domain = problem.domain(prepared)
    objectives = Objectives(problem)
    progress.stage("timing one plan")
    for sentence in outlook(run, prepared, scorer, domain):
        logger.info(sentence)
    progress.stage("searching")
    loop = _loop(run, scorer, domain, objectives)

    found = RecordedFront(run, prepared.space, problem)

    best = BestSoFar(problem)

    def show(search_progress: SearchProgress) -> None:
        if search_progress.latest is not None and search_progress.is_complete:
            found.add(search_progress.latest)
            best.add(search_progress.latest)
        progress.searched(search_progress, str(best))
        on_progress(search_progress)

    stop_reason = loop.run(show)
    logger.info(_STOP_SENTENCES[stop_reason])
    spent = loop.spent
    limits_cost = bool(problem.budget.cost_names)
    if limits_cost and with_baselines:
        genomes = baseline_genomes(problem, prepared, domain)
        score_baselines(run, scorer, genomes, progress)
    complete_front(run, scorer, objectives, progress)
    if with_baselines and not limits_cost and (within := budget_at_knee(run, problem)):
        compared = problem.within(within)
        genomes = baseline_genomes(compared, prepared, compared.domain(prepared))
        score_baselines(run, scorer, genomes, progress)
        run.record_metadata(RunMetadata(baselines_within=str(within)))
    return spent


def _loop(run: RunStore, scorer: Scorer, domain: Domain, objectives: Objectives) -> SearchLoop:
    """Combine searcher, scorer and limits into the loop."""
    searcher = make_searcher(
        run.settings.searcher,
        domain,
        population=run.settings.population,
        seed=run.settings.seed,
        text=Text(
            rungs=scorer.rungs,
            tokens=scorer.window_tokens,
            gradients=_has_gradients(scorer.prepared),
        ),
    )
    limits, racing = search_limits(run.settings), run.settings.racing
    return SearchLoop(searcher, scorer, run, limits, objectives, racing=racing)


def _has_gradients(prepared: PreparedModel) -> bool:
    """Return whether gradients can be taken, and say something of every site: units, formats."""
    reached = {site.dimension for site in prepared.space.sites} <= {"units", *FORMAT_DIMENSIONS}
    return reached and not prepared.dense.structure.backbone.streamed


def _check_scored(run: RunStore) -> None:
    """Log how many plans failed.

    Raises:
        ModelError: If all of them did.
    """
    evaluations = run.landed()
    failed = [e for e in evaluations if e.score.failure]
    if not failed:
        return
    reason = f"such as {failed[0].plan_id}: {failed[0].score.failure}"
    if len(failed) == len(evaluations):
        raise ModelError(
            f"a search needs plans that can be scored, and all {len(failed)} failed, {reason}; "
            "set `--dtype float32`"
        )
    logger.warning("%d plans could not be scored and are left out, %s", len(failed), reason)
