"""What a search may take, how long that will be, and what its text can tell apart."""

import math
from collections.abc import Iterator

import numpy as np

from planner.preparation.prepared_model import PreparedModel
from planner.results.significance import smallest_difference
from planner.runs.run_store import RunStore
from planner.runs.vacancy import saved_settings
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import mutate
from planner.searching.scorer import Scorer
from planner.searching.spending import Limits, held_effort
from planner.settings.search import SearchSettings
from search_spaces.errors import ModelError, SettingsError

DEFAULT_PLANS = 128
"""Without a limit, a search takes the tokens of so many plans scored in full."""
_FRONT_PLANS = 32
"""As many as a usual front has, to say what it takes to score one on other text."""
_COMPARED = 4
"""Plans that are scored to see what the search text can tell apart."""


def search_limits(settings: SearchSettings) -> Limits:
    """Return what a search may take: what its settings say, or the default."""
    tokens = settings.tokens
    if (settings.evaluations, tokens, settings.minutes) == (None, None, None):
        tokens = DEFAULT_PLANS * settings.search_windows * settings.window_tokens
    return Limits(evaluations=settings.evaluations, tokens=tokens, minutes=settings.minutes)


def check_limits(run: RunStore) -> None:
    """Refuse new limits of a resumed run that lie below what it has taken, before it goes on.

    Those that it has are kept to: a run may go a little beyond a limit, and may be finished again.

    Args:
        run: Whose folder still holds the settings of before.

    Raises:
        SettingsError: If there is such a limit.
    """
    limits = search_limits(run.settings)
    if limits == search_limits(saved_settings(run.folder)):
        return
    held = held_effort(run)
    for name, limit, taken in (
        ("evaluations", limits.evaluations, held.plans),
        ("tokens", limits.tokens, held.tokens),
        ("minutes", limits.minutes, held.seconds / 60),
    ):
        if limit is not None and limit < taken:
            by_default = "" if getattr(run.settings, name) is not None else " by default"
            raise SettingsError(
                f"`{name}` counts from a run's beginning, and must be at least the {taken:.10g} "
                f"that this one has behind it, got {limit:.10g}{by_default}; raise it, or search "
                "into another --out"
            )


def outlook(
    run: RunStore, prepared: PreparedModel, scorer: Scorer, domain: Domain
) -> Iterator[str]:
    """Yield sentences on what a search will take and what its text can tell apart.

    Raises:
        ModelError: If the dense model cannot be scored.
    """
    yield _duration(prepared, scorer, run.settings)
    if run.is_new and (told := _power(scorer, domain, run.settings)):
        yield told


def _duration(prepared: PreparedModel, scorer: Scorer, settings: SearchSettings) -> str:
    """Time one plan and say how long the search will take.

    Raises:
        ModelError: If the dense model cannot be scored.
    """
    ((_, evaluation),) = scorer.score(prepared.space.top_levels[None], 0)
    score = evaluation.score
    if score.failure is not None:
        raise ModelError(
            f"the dense model must give finite logits in {prepared.dense.loaded.model.dtype}, and "
            f"{score.failure}; set `--dtype float32`"
        )
    ratio = scorer.rungs[-1] / scorer.rungs[0]
    pace = score.seconds / score.tokens / settings.worker_count  # a token, all workers busy
    limits = search_limits(settings)
    minutes = [math.inf if limits.minutes is None else limits.minutes]
    if limits.evaluations is not None:
        minutes.append(pace * score.tokens * ratio * limits.evaluations / 60)
    if limits.tokens is not None:
        minutes.append(pace * limits.tokens / 60)
    busy = "" if settings.worker_count == 1 else " if all workers always have a plan to score"
    return (
        f"one plan takes {score.seconds * ratio:.1f} s on all {score.tokens * ratio:.0f} tokens: "
        f"at most about {min(minutes):.1f} min of search{busy}, "
        f"{_afterwards(prepared, score.seconds / score.tokens, settings.worker_count)}"
    )


def _afterwards(prepared: PreparedModel, seconds_each: float, workers: int) -> str:
    """Say what comes on top of a search and its limit: all of the front on other text.

    Args:
        prepared: The model and the text.
        seconds_each: For a token of a plan.
        workers: That score several plans at a time.
    """
    text = prepared.calibration
    seconds = seconds_each * (text.fresh.numel() + text.holdout.numel())
    return (
        f"then {seconds:.1f} s for each plan on the front on fresh and held-out text, such as "
        f"{seconds * _FRONT_PLANS / workers / 60:.1f} min for {_FRONT_PLANS}"
    )


def _power(scorer: Scorer, domain: Domain, settings: SearchSettings) -> str:
    """Score a few plans as a search compares them, and say how well its text tells them apart.

    They are the best plan by the prior at the budget, or halfway down without one, and mutants of
    it at about its cost.

    Returns:
        A sentence; empty if too few of them could be scored.
    """
    limit = domain.costs[0].limit
    target = (1.0 + domain.cost_floor) / 2 if limit is None else limit
    best = domain.by_prior(target, np.zeros(len(domain.top_levels)))
    rng = np.random.default_rng(settings.seed)
    mutants = mutate(domain, np.tile(best, (_COMPARED - 1, 1)), rng)
    genomes = np.unique(np.concatenate([best[None], mutants]), axis=0)
    scores = [evaluation.score for _, evaluation in scorer.score(genomes)]
    values = np.array([score.by_window["kl"] for score in scores if score.failure is None])
    if len(values) < 2:
        return ""
    return (
        f"these {values.shape[1]} windows can tell plans {smallest_difference(values):.2g} KL "
        f"apart at KL {values.mean():.2g}, four times in five; more `--search_windows` tell more"
    )
