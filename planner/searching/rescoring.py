"""Scoring after a search: baselines, the rest of the front, and all of it on other text."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from evaluators.quality import QUALITY
from evaluators.scoring.batches import Fidelity
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.selection import Selector
from planner.results.answers import own_budget
from planner.results.front import front, front_frame, save_front, with_variants
from planner.runs.metadata import RunMetadata
from planner.runs.records import (
    BASELINE_ROUND,
    RESCORE_SPLITS,
    Evaluation,
    LayerRecovery,
    RescoreSplit,
)
from planner.runs.run_store import RunStore
from planner.searching.objectives import Objectives, likely_front
from planner.searching.problem import Problem
from planner.searching.scorer import Scorer
from planner.searching.spending import plan_count
from planner.workers.backends import Backends
from planner.workers.scored_run import ScoredText
from search_spaces.progress import Progress
from search_spaces.space.space import Genome

logger = logging.getLogger(__name__)


def score_baselines(
    run: RunStore, scorer: Scorer, genomes: Mapping[str, NDArray[np.int_]], progress: Progress
) -> None:
    """Score baselines, each a genome ``(sites,)``, on all windows, unless the search did."""
    progress.stage("scoring the baselines")
    unscored = [tuple(genome.tolist()) for genome in genomes.values()]
    baselines = _completed(run, scorer, unscored, progress)
    plan_ids = {name: e.plan_id for name, e in zip(genomes, baselines, strict=True)}
    run.record_metadata(RunMetadata(baselines=plan_ids))


def complete_front(
    run: RunStore, scorer: Scorer, objectives: Objectives, progress: Progress
) -> None:
    """Score on all windows the plans that may be on the front but that a race did not finish."""
    while unfinished := [
        evaluation.genome
        for evaluation in likely_front(run.landed(), objectives)
        if evaluation.score.windows < scorer.rungs[-1]
    ]:
        progress.stage("scoring what the search left unfinished")
        _completed(run, scorer, unfinished, progress)


def _completed(
    run: RunStore, scorer: Scorer, genomes: list[Genome], progress: Progress
) -> list[Evaluation]:
    """Return genomes scored on all windows, continuing from what the run holds of them."""
    for rung, (held, windows) in enumerate(pairwise((0, *scorer.rungs))):
        stored = {genome: run.find(genome) for genome in genomes}
        unfinished = [
            genome
            for genome, evaluation in stored.items()
            if evaluation is None
            or (evaluation.score.windows < windows and not evaluation.score.failure)
        ]
        if not unfinished:
            continue
        progress.note(f"{plan_count(len(unfinished))} on {windows} of {scorer.rungs[-1]} windows")
        for index, scored in scorer.score(np.array(unfinished), rung):
            before = stored[unfinished[index]]
            run.record(
                replace(scored, round=BASELINE_ROUND)
                if before is None
                # a run may have come to other rungs than before it was resumed
                else before.scored(
                    before.score.upto(held).then(scored.score) if held else scored.score
                )
            )
    return [evaluation for genome in genomes if (evaluation := run.find(genome)) is not None]


def rescore_front(
    run: RunStore,
    prepared: PreparedModel,
    problem: Problem,
    backends: Backends,
    progress: Progress,
) -> None:
    """Measure front and baselines on fresh and held-out text, and write them down in whole.

    Then its best plans are recovered, if the run is to.
    """
    evaluations = run.landed()
    listed = [*front(evaluations, problem.cost_names), *run.baselines().values()]
    plans = list({e.genome: e for e in listed}.values())
    space = prepared.space
    genomes = space.repaired(np.array([plan.genome for plan in plans]))
    run.record_plans(space.plan(genome) for genome in genomes)
    for split in RESCORE_SPLITS:
        fidelity = Fidelity(metrics=tuple(QUALITY), state_bytes=0)
        scorer = Scorer(prepared, backends.on(ScoredText(split=split, fidelity=fidelity)))
        _rescore(run, scorer, split, plans, progress)
        del scorer  # one evaluator is in memory at a time
    plans = front(run.landed(), problem.cost_names)
    save_front(front_frame(with_variants(plans), problem.dense), run.folder)
    if run.settings.recover != "none":
        _recover_best(run, prepared, run.settings.recover, progress)


def _recover_best(
    run: RunStore, prepared: PreparedModel, recovery: LayerRecovery, progress: Progress
) -> None:
    """Recover the best plans within the run's budget, or that of its knee.

    What an earlier session recovered stays, unless the search has found other plans since.
    """
    budget = own_budget(run)
    if budget is None:
        logger.warning("nothing is recovered: no budget was set, and the front has no knee")
        return
    selector = Selector(run=run, prepared=prepared, progress=progress)
    if not selector.is_chosen(budget, recovery):
        selector.recover_within(budget, recovery)


def _rescore(
    run: RunStore,
    scorer: Scorer,
    split: RescoreSplit,
    plans: Sequence[Evaluation],
    progress: Progress,
) -> None:
    """Measure the plans that are not yet measured on a split, by every quality metric."""
    unmeasured = [plan for plan in plans if not getattr(plan, split)]
    if not unmeasured:
        return
    progress.stage(f"re-scoring the front on {RESCORE_SPLITS[split]} text")
    genomes = np.array([plan.genome for plan in unmeasured])
    for done, (index, scored) in enumerate(scorer.score(genomes), start=1):
        run.record_rescore(unmeasured[index].plan_id, split, scored.quality)
        progress.advance(done, len(unmeasured))
