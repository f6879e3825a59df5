"""What is scored once a search is over: baselines, the front's rest, and text nobody saw."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluators.quality import QUALITY
from evaluators.scoring.evaluator import Evaluator, Fidelity
from planner.preparation.prepared_model import PreparedModel
from planner.results.front import front, front_frame, save_front
from planner.runs.records import RESCORE_SPLITS, Evaluation, RescoreSplit
from planner.runs.run_store import RunStore
from planner.searching.objectives import Objectives, likely_front
from planner.searching.scorer import Scorer
from search_spaces.progress import Progress
from search_spaces.space.space import Genome

BASELINE_ROUND = -1
"""The round of plans that were scored to compare with and not proposed by the searcher."""


def score_baselines(
    run: RunStore, scorer: Scorer, genomes: Mapping[str, NDArray[np.int_]]
) -> None:
    """Score baselines, each a genome ``(sites,)``, on all windows, unless the search did."""
    known = _completed(run, scorer, [tuple(genome.tolist()) for genome in genomes.values()])
    run.set_meta("baselines", {n: e.plan_id for n, e in zip(genomes, known, strict=True)})


def complete_front(
    run: RunStore, scorer: Scorer, objectives: Objectives, progress: Progress
) -> None:
    """Score on all windows whatever may stand on the front and did not come to its race's end."""
    while waiting := [
        evaluation.genome
        for evaluation in likely_front(run.evaluations(), objectives)
        if evaluation.score.windows < scorer.rungs[-1]
    ]:
        progress.stage("scoring what the search left unfinished")
        _completed(run, scorer, waiting)


def _completed(run: RunStore, scorer: Scorer, genomes: list[Genome]) -> list[Evaluation]:
    """Give genomes scored on all windows, going on from what the run knows of them."""
    for rung, windows in enumerate(scorer.rungs):
        known = {genome: run.find(genome) for genome in genomes}
        waiting = [
            genome
            for genome, found in known.items()
            if found is None or (found.score.windows < windows and not found.score.failure)
        ]
        if not waiting:
            continue
        for index, more in scorer.score(np.array(waiting), rung):
            before = known[waiting[index]]
            run.record(
                replace(more, round=BASELINE_ROUND)
                if before is None
                else before.scored(before.score.then(more.score))
            )
    return [found for genome in genomes if (found := run.find(genome)) is not None]


def rescore_front(run: RunStore, prepared: PreparedModel, progress: Progress) -> None:
    """Measure the front and the baselines on tokens nobody searched on; write the front down."""
    cost_names = tuple(run.get_meta("cost_names"))
    evaluations = run.evaluations()
    wanted = front(evaluations, cost_names)
    wanted += run.baselines().values()
    plans = list({e.genome: e for e in wanted}.values())
    for split in RESCORE_SPLITS:
        _rescore(run, prepared, split, plans, progress)
    save_front(front_frame(run.evaluations(), cost_names, run.get_meta("dense")), run.folder)


def _rescore(
    run: RunStore,
    prepared: PreparedModel,
    split: RescoreSplit,
    plans: Sequence[Evaluation],
    progress: Progress,
) -> None:
    """Measure plans by every quality metric on a split where they are not yet measured."""
    waiting = [plan for plan in plans if not getattr(plan, split)]
    if not waiting:
        return
    progress.stage(f"re-scoring the front on {RESCORE_SPLITS[split]} text")
    windows = getattr(prepared.calibration, split)
    fidelity = Fidelity(metrics=tuple(QUALITY), state_bytes=0)
    structure, layer_builder = prepared.dense.structure, prepared.layer_builder
    scorer = Scorer(prepared, Evaluator(structure, windows, fidelity, layer_builder=layer_builder))
    genomes = np.array([plan.genome for plan in waiting])
    for done, (index, scored) in enumerate(scorer.score(genomes), start=1):
        run.record_rescore(waiting[index].plan_id, split, scored.quality)
        progress.advance(done, len(waiting))
