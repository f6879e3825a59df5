"""What a search may take, and how long that will be."""

import math

from planner.preparation.prepared_model import PreparedModel
from planner.searching.scorer import Scorer
from planner.searching.spending import Limits
from planner.settings.search import SearchSettings
from search_spaces.errors import ModelError

DEFAULT_PLANS = 256
"""Without a limit, a search takes the tokens of so many plans scored in full."""


def search_limits(settings: SearchSettings) -> Limits:
    """Return what a search may take: what its settings say, or the default."""
    tokens = settings.tokens
    if (settings.evaluations, tokens, settings.minutes) == (None, None, None):
        tokens = DEFAULT_PLANS * settings.search_windows * settings.window_tokens
    return Limits(evaluations=settings.evaluations, tokens=tokens, minutes=settings.minutes)


def forecast(prepared: PreparedModel, scorer: Scorer, settings: SearchSettings) -> str:
    """Time one plan and return a sentence on how long the search will take.

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
    limits = search_limits(settings)
    minutes = [math.inf if limits.minutes is None else limits.minutes]
    if limits.evaluations is not None:
        minutes.append(score.seconds * ratio * limits.evaluations / 60)
    if limits.tokens is not None:
        minutes.append(score.seconds / score.tokens * limits.tokens / 60)
    return (
        f"one plan takes {score.seconds * ratio:.1f} s on all {score.tokens * ratio:.0f} tokens: "
        f"at most about {min(minutes):.1f} min of search"
    )
