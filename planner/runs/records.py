"""What a run records: evaluations, replies, what a search took, and how far it has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AwareDatetime, BeforeValidator, Field, Strict

from evaluators.metric import Measurement
from evaluators.scoring.score import Score
from search_spaces.errors import PlanError, quoted

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

RescoreSplit = Literal["fresh", "holdout"]
"""Tokens that the front is re-scored on: a second draw of the search text, and held-out text."""
RESCORE_SPLITS: Mapping[RescoreSplit, str] = {"fresh": "fresh", "holdout": "held-out"}
"""The name of each in sentences."""


Recovery = Literal["refit", "block", "heal"]
"""How weights of a plan were recovered: a variant of the plan, with scores of its own."""
LayerRecovery = Literal["refit", "block"]
WeightsChoice = Literal[LayerRecovery, "best"]
"""What a plan is exported with; *best* of what there is, of which none is made."""
"""Those that fit a plan layer by layer; `heal` trains it from end to end."""
RECOVERIES: Mapping[Recovery, str] = {
    "refit": "output projections solved again",
    "block": "whole sub-blocks trained",
    "heal": "trained end to end",
}
"""What each does, in words, the weakest first."""


RunState = Literal["preparing", "searching", "rescoring", "finished", "stopped", "failed"]
"""What a run is doing, or how it ended: as its settings say, by its user, or by an error."""


def now() -> datetime:
    """Return the wall clock, UTC, to the millisecond that is stored."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _moment(stored: object) -> object:
    return datetime.fromisoformat(stored) if isinstance(stored, str) else stored


LONGEST_SECONDS = 1e9
"""Nobody knows what takes longer: thirty years."""
_Text = Annotated[str, Strict()]
_Share = Annotated[float, Strict(), Field(ge=0, le=1)]
_Seconds = Annotated[float, Strict(), Field(ge=0, le=LONGEST_SECONDS)]
_Count = Annotated[int, Strict(), Field(ge=0)]
_Moment = Annotated[AwareDatetime, Strict(), BeforeValidator(_moment)]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How far a run has come; of one that was killed, how far it had."""

    state: RunState = "preparing"
    phase: _Text = ""
    """What it is doing, or did when it ended, in words."""
    share: _Share = 0.0
    """Of the phase, from 0 to 1."""
    failure: _Text = ""
    """Why it failed, in words."""
    eta_seconds: _Seconds | None = None
    """Left of the search at this session's pace; `None` if nobody knows."""
    tokens: _Count = 0
    """Candidate tokens of the search so far, over all its sessions."""
    started_at: _Moment = field(default_factory=now)
    """When this session began; UTC, as `updated_at`."""
    updated_at: _Moment = field(default_factory=now)

    def __str__(self) -> str:
        phase = "" if self.phase == self.state else self.phase
        return ": ".join(f"{word:.80}" for word in (self.state, phase, self.failure) if word)

    def finished(self) -> "RunStatus":
        """Return the status of the same run at the end that its settings set."""
        return replace(self, state="finished", phase="", share=1.0, failure="", eta_seconds=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class RoundReply:
    """The answer that a searcher gets on one genome for one round only."""

    values: NDArray[np.float64]
    """``(values,)``: objectives on some of the text, or gradients level by level, site by site."""
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SearchEffort:
    """What a search took since the run's beginning, over all its sessions."""

    plans: int
    tokens: int
    """Candidate tokens."""
    seconds: float
    """Of scoring and choosing, without preparing and re-scoring."""
    choosing_seconds: float
    """Of these, spent in the searcher."""


def variant_name(plan_id: str, recovery: Recovery | None) -> str:
    """Return what users call a plan with recovered weights, or the plan itself.

    >>> variant_name("a1b2c3d4e5", "refit"), variant_name("a1b2c3d4e5", None)
    ('a1b2c3d4e5+refit', 'a1b2c3d4e5')
    """
    return plan_id if recovery is None else f"{plan_id}+{recovery}"


def plan_and_recovery(name: str) -> tuple[str, Recovery | None]:
    """Return the plan's id and the recovery that a user's name of a variant consists of.

    >>> plan_and_recovery("a1b2c3d4e5+refit")
    ('a1b2c3d4e5', 'refit')

    Raises:
        PlanError: If there is no such recovery.
    """
    plan_id, sign, named = name.partition("+")
    recovery = next((known for known in RECOVERIES if known == named), None)
    if sign and recovery is None:
        raise PlanError(
            f"a plan's id must be followed by one of {', '.join(f'+{r}' for r in RECOVERIES)} or "
            f"by nothing, got {quoted(name)}; `planner front` lists what there is"
        )
    return plan_id, recovery


@dataclass(frozen=True, kw_only=True)
class Recovered:
    """What one recovery of a plan's weights came to."""

    search: Mapping[str, Measurement] = field(default_factory=dict)
    """Quality on the search text, at the positions that plans are searched on."""
    fresh: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on the second draw of that text."""
    holdout: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on held-out text."""
    tokens: int = 0
    """Of text that the weights were fitted to, each as often as it was run."""
    seconds: float = 0.0
    """Of fitting."""
    failure: str | None = None
    """Why there are no recovered weights, such as that they helped nothing; none if there are."""
    created_at: datetime | None = field(default=None, compare=False)
    """When it was recorded, UTC."""

    @property
    def by_split(self) -> Mapping[str, Mapping[str, Measurement]]:
        """What was measured, by the name of the text."""
        return {"search": self.search, "fresh": self.fresh, "holdout": self.holdout}


@dataclass(frozen=True, kw_only=True)
class SelectionRound:
    """Plans that were recovered on as many tokens, and how well each did then."""

    tokens: _Count
    """Of text that each was fitted to."""
    kl: Mapping[_Text, float]
    """On the search text, by plan."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How one of the best plans within a budget was chosen by what recovery makes of them."""

    budget: _Text
    recovery: Recovery
    searched: Mapping[_Text, float]
    """KL of the plans on the search text before any recovery, the best first."""
    rounds: tuple[SelectionRound, ...]
    """Each of the better half of the one before, on twice the text."""
    chosen: _Text
    """The plan that was recovered on all of the text."""
    spearman: float
    """Between the orders before recovery and after the first round: 1 if they are the same."""


BASELINE_ROUND = -1
"""The round of plans that were scored for comparison and not proposed by the searcher."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One genome with everything that was measured of it."""

    genome: "Genome"
    plan_id: str
    round: int
    """The searcher's batch it was proposed in, from 0; or `BASELINE_ROUND`."""
    score: Score
    """On the search text, over the windows that the plan was scored on."""
    costs: Mapping[str, float]
    """By name, in the metrics' own units: all of `METRICS` that the model has and the run
    measured."""
    fresh: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on a second draw of the same text; empty until re-scored."""
    holdout: Mapping[str, Measurement] = field(default_factory=dict)
    """Every quality metric on held-out text; empty until re-scored."""
    recovered: Mapping[Recovery, Recovered] = field(default_factory=dict)
    """What recoveries of its weights came to; each that did not fail is a variant of the plan."""
    created_at: datetime | None = field(default=None, compare=False)
    """When it landed, UTC; `None` before it did."""
    revision: int = field(default=0, compare=False)
    """Grows with each write to the run: those above it are younger; 0 before it landed."""

    @property
    def quality(self) -> Mapping[str, Measurement]:
        """Means of the score, with errors: ``kl``, ``nll``, ``agreement``."""
        return self.score.quality

    @property
    def values(self) -> dict[str, float]:
        """Quality on the search text and costs by name, as a budget reads them."""
        means = {name: self.score.mean(name) for name in self.score.by_window}
        return means | dict(self.costs)

    def variant(self, recovery: Recovery) -> "Evaluation | None":
        """Return the plan with recovered weights as a plan of its own; `None` if there are none.

        It costs the same, has another name and its own scores.
        """
        came_to = self.recovered.get(recovery)
        if came_to is None or came_to.failure is not None:
            return None
        by_window = {name: np.array(m.by_window) for name, m in came_to.search.items()}
        return replace(
            self,
            plan_id=variant_name(self.plan_id, recovery),
            score=Score(by_window=by_window, tokens=came_to.tokens, seconds=came_to.seconds),
            fresh=came_to.fresh,
            holdout=came_to.holdout,
            recovered={},
            created_at=came_to.created_at,
        )

    @property
    def variants(self) -> "list[Evaluation]":
        """The plan with recovered weights, once for each recovery, as `variant` returns them."""
        return [found for name in RECOVERIES if (found := self.variant(name)) is not None]

    def scored(self, score: Score) -> "Evaluation":
        """Return the same with another score."""
        return replace(self, score=score)
