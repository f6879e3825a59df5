"""One search from start to end: prepare, search, re-score the front on text nobody searched on."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evaluators.evaluator import Evaluator, Fidelity
from evaluators.memory import release_pages
from evaluators.racing import rungs_of
from planner.baselines import baseline_genomes, budget_at_knee
from planner.budget import Budget, check_reachable, relative_cost
from planner.evaluation import Spent
from planner.listener import Listener, Silence
from planner.loop import Limits, OnProgress, Progress, SearchLoop, StopReason
from planner.objectives import Objectives
from planner.preparing import prepare
from planner.rescoring import complete_front, rescore_front, score_baselines
from planner.run import Run
from planner.scoring import Scorer
from planner.searchers import make_searcher
from planner.searchers.domain import Domain
from planner.searchers.protocol import Text
from planner.settings import SearchSettings
from planner.tables import find_table, workload
from planner.workbench import DenseModel, Workbench, arithmetic_of, open_model
from search_spaces.errors import BudgetError, InputError, ModelError
from search_spaces.space import SearchSpace

_ENDS: Mapping[StopReason, str] = {
    "evaluations": "all plans that were asked for are scored",
    "tokens": "stopped at the limit on tokens",
    "minutes": "stopped at the limit on minutes: another run may come further",
    "exhausted": "stopped: the searcher proposes nothing new",
}
DEFAULT_PLANS = 256
"""Where no limit is given, a search takes the tokens of so many plans scored in full."""
_LOOK_BELOW = 0.25
"""How far under a budget a search looks, as a share of what the budget cuts away."""
_LOOK_JUST_BELOW = 0.05
"""The same where only the budget matters: as far as steps of levels may miss it."""


def search(
    model: str,
    *,
    out: str | Path,
    resume: bool = False,
    listener: Listener | None = None,
    **options: Any,
) -> Run:
    """Search a model and leave a run on disk.

    Args:
        model: A HuggingFace folder, a hub name or a ``.gguf`` file.
        out: The run's folder, new or empty; with ``resume`` the folder of a run.
        resume: Go on with the run in ``out``.
        listener: Told of progress.
        options: Any other field of `SearchSettings`.

    Returns:
        The finished run, open to be read.

    Raises:
        InputError: For whatever the user can mend.
    """
    settings = SearchSettings.checked(model=model, **options)
    return run_search(settings, Path(out), resume=resume, listener=listener or Silence())


def run_search(settings: SearchSettings, out: Path, *, resume: bool, listener: Listener) -> Run:
    """Search as `search` does, with settings that are checked already."""
    check_budget(settings)  # a mistake in it comes before the folder
    with opened(out, settings, resume=resume) as run:
        run.check_search()
        search_on(run, open_bench(run, listener), listener)
    release_pages()
    return Run.open(out)


def asked_budget(settings: SearchSettings) -> Budget:
    """Give the budget of settings, without limits where there is none.

    Raises:
        BudgetError: It breaks the grammar.
    """
    return Budget(limits=()) if settings.budget is None else Budget.parse(settings.budget)


def check_budget(settings: SearchSettings) -> None:
    """Refuse a budget that breaks the grammar, or lacks a cost where one is needed.

    Raises:
        BudgetError: It does.
    """
    budget = asked_budget(settings)
    if budget.cost_names:
        return
    if settings.focus == "budget":
        asker = "`--focus budget`"
    elif settings.searcher in ("evopress", "multipruner"):
        asker = f"`--searcher {settings.searcher}`"
    else:
        return
    raise BudgetError(
        f"{asker} needs a budget that limits a cost, got "
        f"{settings.budget or 'none'}; set one such as `--budget 'params<=0.7x'`"
    )


def default_costs(settings: SearchSettings) -> tuple[str, ...]:
    """Give what is traded against quality where the budget names no cost."""
    return ("nonzero",) if settings.choices.sparse else ("params",)


@contextmanager
def opened(out: Path, settings: SearchSettings, *, resume: bool) -> Iterator[Run]:
    """Give a run to search; a new one in which nothing comes to be scored leaves its folder free.

    Raises:
        RunError: The folder holds something else, or not the run to go on with.
        OutputError: The folder cannot be written to.
    """
    if Path(settings.model).exists():  # so that the run finds it from any folder
        settings = settings.model_copy(update={"model": str(Path(settings.model).resolve())})
    with Run.resume(out, settings) if resume else Run.create(out, settings) as run:
        try:
            yield run
        except InputError:
            if not resume and run.is_bare:
                run.discard()  # nothing was searched: the mended command may use the folder
            raise


def open_bench(run: Run, listener: Listener) -> Workbench:
    """Load the model of a run and make it ready, with what the run's folder keeps of that.

    Raises:
        InputError: For whatever the user can mend.
    """
    dense = open_model(run.settings, listener)
    check_same(run, dense)
    if asked_budget(run.settings).measured:
        table = find_table(dense, workload(run.settings), run.folder, listener)
        dense = replace(dense, costs=dense.costs.timed(table))
    return prepare(dense, run.settings, run.folder, listener)


def check_same(run: Run, dense: DenseModel) -> None:
    """Refuse to go on with a run of another model, number format or device.

    Raises:
        RunError: Where it is one.
    """
    run.check_model(dense.loaded.identity)
    run.check_arithmetic(arithmetic_of(dense))


def search_on(
    run: Run,
    bench: Workbench,
    listener: Listener,
    *,
    with_baselines: bool = True,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Search a model that is ready and re-score the front.

    Args:
        run: New or to go on with; its settings decide.
        bench: Laid out for them.
        listener: Told of progress.
        with_baselines: Whether plans that take no search are scored beside the searcher's.
        on_progress: Called as each plan lands on a rung.

    Raises:
        BudgetError: No plan can meet the budget.
        RunError: The run's latency table is another.
        ModelError: No plan could be scored.
    """
    budget = asked_budget(run.settings)
    costs, smallest = bench.dense.costs.dense(), bench.smallest()
    check_reachable(budget, costs, smallest)
    if bench.dense.costs.table is not None:
        run.check_latency(bench.dense.costs.table.digest)
    names = budget.cost_names or default_costs(run.settings)
    for key, value in (("dense", costs), ("smallest", smallest), ("cost_names", names)):
        run.set_meta(key, value)
    run.set_meta("calibration", bench.calibration.source)

    spent = _scored(run, bench, listener, with_baselines=with_baselines, on_progress=on_progress)
    _check_scored(run, listener)
    rescore_front(run, bench, listener)
    run.finish(spent)


def _scored(
    run: Run,
    bench: Workbench,
    listener: Listener,
    *,
    with_baselines: bool,
    on_progress: OnProgress,
) -> Spent:
    """Score whatever needs the text searched on; its evaluator is gone with this call's end."""
    budget = asked_budget(run.settings)
    domain, scorer = _domain(run, bench, budget), _search_scorer(bench, run.settings, listener)
    objectives = Objectives(
        cost_names=tuple(run.get_meta("cost_names")),
        dense=bench.dense.costs.dense(),
        allowed=_allowed(domain),
    )
    listener.say(_forecast(bench, scorer, run.settings))
    listener.stage("searching")
    loop = _loop(run, bench, scorer, domain, objectives, listener)

    def show(progress: Progress) -> None:
        listener.advance(round(100 * progress.share), 100, _note(progress))
        on_progress(progress)

    listener.say(_ENDS[loop.run(show)])
    spent = loop.spent
    if budget.cost_names and with_baselines:
        score_baselines(run, scorer, baseline_genomes(bench, domain, budget))
    complete_front(run, scorer, objectives, listener)
    if with_baselines and not budget.cost_names and (within := budget_at_knee(run)):
        score_baselines(run, scorer, baseline_genomes(bench, _domain(run, bench, within), within))
        run.set_meta("baselines_within", str(within))
    return spent


def _loop(
    run: Run,
    bench: Workbench,
    scorer: Scorer,
    domain: Domain,
    objectives: Objectives,
    listener: Listener,
) -> SearchLoop:
    """Put together who proposes, who scores and when it ends."""
    searcher = make_searcher(
        run.settings.searcher,
        domain,
        population=run.settings.population,
        seed=run.settings.seed,
        text=Text(
            rungs=scorer.rungs,
            tokens=bench.calibration.search.shape[1],
            slopes=not bench.dense.structure.backbone.streamed and _all_gated(bench.space),
        ),
        say=listener.say,
    )
    limits, racing = _limits(run.settings), run.settings.racing
    return SearchLoop(searcher, scorer, run, limits, objectives, racing=racing)


def _all_gated(space: SearchSpace) -> bool:
    """Whether gates on units tell of every site: of how what stays is thinned out they do not."""
    return all(site.dial == "units" for site in space.sites)


def _domain(run: Run, bench: Workbench, budget: Budget) -> Domain:
    """Tell the searcher what of the costs is of interest."""
    costs, only = bench.dense.costs.dense(), run.settings.focus == "budget"
    limits = {name: budget.share(name, costs) for name in run.get_meta("cost_names")}
    floor = _cost_floor(next(iter(limits)), budget, costs, bench.smallest(), only_budget=only)
    domain = bench.domain(limits, floor, only_budget=only)
    # another cost's limit may take all plans that meet it below
    lowest = float(domain.cost(domain.uniform_within()[None])[0])
    return replace(domain, cost_floor=min(floor, lowest)) if only else domain


def _search_scorer(bench: Workbench, settings: SearchSettings, listener: Listener) -> Scorer:
    release_pages()  # what loading and ranking needed
    streamed = bench.dense.structure.backbone.streamed
    windows = bench.calibration.search
    fidelity = Fidelity(
        # a streamed model reads all weights for each rung: one is dearer than the text it saves
        rungs=rungs_of(
            len(windows), most_rungs=1 if settings.racing == "off" or streamed else settings.rungs
        ),
        positions=settings.positions,
        seed=settings.seed,
    )
    structure, shaper = bench.dense.structure, bench.shaper
    return Scorer(bench, Evaluator(structure, windows, fidelity, listener.say, shaper=shaper))


def _limits(settings: SearchSettings) -> Limits:
    tokens = settings.tokens
    if (settings.evaluations, tokens, settings.minutes) == (None, None, None):
        tokens = DEFAULT_PLANS * settings.windows * settings.window_tokens
    return Limits(evaluations=settings.evaluations, tokens=tokens, minutes=settings.minutes)


def _allowed(domain: Domain) -> tuple[float, ...]:
    """Give what the budget allows of each cost, where nothing else matters."""
    return tuple(map(float, domain.allowed)) if domain.only_budget else ()


def _cost_floor(
    name: str,
    budget: Budget,
    dense: Mapping[str, float],
    smallest: Mapping[str, float],
    *,
    only_budget: bool,
) -> float:
    """Give the lowest share of a cost worth looking at: a little below the budget."""
    lowest = relative_cost(name, smallest[name], dense)
    share = budget.share(name, dense)
    if share is None:
        return lowest
    below = _LOOK_JUST_BELOW if only_budget else _LOOK_BELOW
    return max(lowest, share - below * (1.0 - share))


def _forecast(bench: Workbench, scorer: Scorer, settings: SearchSettings) -> str:
    """Time one plan and say how long the search will take."""
    ((_, evaluation),) = scorer.score(bench.space.top_levels[None], 0)
    score = evaluation.score
    if score.failure is not None:
        raise ModelError(
            f"the dense model must give finite logits in {bench.dense.loaded.model.dtype}, and "
            f"{score.failure}; set `--dtype float32`"
        )
    share = scorer.rungs[-1] / scorer.rungs[0]
    limits = _limits(settings)
    most = [math.inf if limits.minutes is None else limits.minutes]
    if limits.evaluations is not None:
        most.append(score.seconds * share * limits.evaluations / 60)
    if limits.tokens is not None:
        most.append(score.seconds / score.tokens * limits.tokens / 60)
    return (
        f"one plan takes {score.seconds * share:.1f} s on all {score.tokens * share:.0f} tokens: "
        f"at most about {min(most):.1f} min of search"
    )


def _note(progress: Progress) -> str:
    note = f"{progress.done} plans, KL {progress.latest.quality['kl'].value:.3f}"
    if progress.eta_seconds is None:
        return note
    return f"{note}, {progress.eta_seconds / 60:.1f} min left"


def _check_scored(run: Run, listener: Listener) -> None:
    """Say how many plans failed.

    Raises:
        ModelError: Where all of them did.
    """
    evaluations = run.evaluations()
    failed = [e for e in evaluations if e.score.failure]
    if not failed:
        return
    reason = f"such as {failed[0].plan_id}: {failed[0].score.failure}"
    if len(failed) == len(evaluations):
        raise ModelError(
            f"a search needs plans that can be scored, and all {len(failed)} failed, {reason}; "
            "set `--dtype float32`"
        )
    listener.say(f"{len(failed)} plans could not be scored and are left out, {reason}")
