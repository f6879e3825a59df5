"""Training within a limit: learning rate, looks at fresh text, keep-best, states on disk."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.scoring.score import estimate
from planner.recovery.healing.curve import LearningCurve, Look, StopReason
from planner.recovery.healing.healing_checkpoint import (
    CheckpointFile,
    TrainingFacts,
    TrainingState,
)
from planner.recovery.healing.learning_rate import Limits, learning_rate
from search_spaces.progress import Progress

logger = logging.getLogger(__name__)

_LOOKS = 12
"""Looks at fresh text that a whole training is divided by."""
_PATIENCE = 4
"""Looks without a better one before it ends early."""
_LONGEST_GRADIENT = 1.0
_RUINED = 2.0
"""Times the KL that it began with, beyond which a training has diverged."""


class Trainee(Protocol):
    """What is trained."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """What the optimiser changes, by names that stay the same from run to run."""
        ...

    @property
    def passes(self) -> int:
        """How many models a step runs on its text."""
        ...

    def backward(self, step: int, tokens: Tensor) -> float:
        """Add the gradients of one step on token ids ``(windows, tokens)``; return the loss."""
        ...

    def look(self) -> NDArray[np.float64]:
        """Return KL in each window of fresh text ``(windows,)``, in nats a token."""
        ...


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a trainee is trained."""

    limits: Limits
    highest_rate: float
    read: Callable[[int], Tensor]
    """Returns the token ids ``(windows, tokens)`` of a step, given the windows read before it."""
    checkpoint: CheckpointFile
    progress: Progress

    def run(self, trainee: Trainee) -> LearningCurve:
        """Train, from where a killed training came to if it left a state.

        Args:
            trainee: Its parameters are those of the best look afterwards: those that it came
                with, if none was better.

        Returns:
            How it went.
        """
        session = _Session(self, trainee)
        session.begin()
        while session.facts.curve.stopped is None:
            session.step()
            if self.checkpoint.is_due or session.facts.curve.stopped is not None:
                session.save()
        session.end()
        return session.facts.curve


class _Session:
    """One process's part of a training."""

    def __init__(self, training: Training, trainee: Trainee) -> None:
        self._training, self._trainee = training, trainee
        self._parameters = trainee.parameters
        device = next(iter(self._parameters.values())).device
        self._optimiser = torch.optim.AdamW(
            list(self._parameters.values()),
            lr=training.highest_rate,
            betas=(0.9, 0.95),
            weight_decay=0.0,
            fused=device.type in {"cpu", "cuda"},
        )
        self.facts = TrainingFacts()
        self._best = self._copies()
        self._started = time.monotonic()

    def begin(self) -> None:
        """Take up what a killed training left, or look at the trainee as it is."""
        state = self._training.checkpoint.load()
        if state is None:
            self._look()
            return
        logger.info("going on with a healing after step %d", state.facts.step)
        self.facts, self._best = state.facts, dict(state.best)
        self._put(state.parameters)
        positions = {name: index for index, name in enumerate(self._parameters)}
        current = self._optimiser.state_dict()
        held = {positions[name]: dict(tensors) for name, tensors in state.adam.items()}
        self._optimiser.load_state_dict({**current, "state": held})

    def step(self) -> None:
        """Train on one batch, and see whether that was the last."""
        before = time.monotonic()
        facts, training = self.facts, self._training
        rate = learning_rate(training.highest_rate, facts.step, self._share)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        tokens = training.read(facts.text_position)
        loss = self._trainee.backward(facts.step, tokens)
        if not (math.isfinite(loss) and self._is_clipped()):
            self._stop("diverged")
            return
        self._optimiser.step()
        self._optimiser.zero_grad()
        self.facts = facts.model_copy(
            update={
                "step": facts.step + 1,
                "tokens": facts.tokens + self._trainee.passes * tokens.numel(),
                "seconds": facts.seconds + time.monotonic() - before,
                "text_position": facts.text_position + len(tokens),
                "loss_sum": facts.loss_sum + loss,
                "loss_steps": facts.loss_steps + 1,
            }
        )
        self._look_or_stop()

    def save(self) -> None:
        """Write where the training stands; once it is over, what follows may be killed too."""
        self._training.checkpoint.save(self._state())

    def end(self) -> None:
        """Have the trainee be as it was at best."""
        self._put(self._best)

    @property
    def _share(self) -> float:
        facts = self.facts
        return self._training.limits.share(seconds=facts.seconds, tokens=facts.tokens)

    def _look_or_stop(self) -> None:
        share = self._share
        is_due = share >= len(self.facts.curve.looks) / _LOOKS or share >= 1.0
        if is_due and not self._look():
            self._stop("diverged")
        elif share >= 1.0:
            limits, tokens = self._training.limits, self.facts.tokens
            by_tokens = limits.tokens is not None and tokens >= limits.tokens
            self._stop("tokens" if by_tokens else "minutes")
        elif self.facts.curve.since_best >= _PATIENCE:
            self._stop("no longer better")
        self._tell(share)

    def _look(self) -> bool:
        """Measure the trainee on fresh text, and keep it if it is the best so far.

        Returns:
            Whether it predicts at least about as well as before.
        """
        before = time.monotonic()
        kl = self._trainee.look()
        facts = self.facts
        if not np.isfinite(kl).all():
            return False
        found = estimate(kl)
        seconds = facts.seconds + time.monotonic() - before
        look = Look(
            step=facts.step,
            tokens=facts.tokens,
            seconds=seconds,
            loss=facts.loss_sum / facts.loss_steps if facts.loss_steps else None,
            fresh_kl=found.value,
            standard_error=found.standard_error,
        )
        curve = facts.curve.add(look, kl)
        if curve.since_best == 0:
            self._best = self._copies()
        reset = {"loss_sum": 0.0, "loss_steps": 0}
        self.facts = facts.model_copy(update={"curve": curve, "seconds": seconds, **reset})
        return look.fresh_kl <= _RUINED * curve.looks[0].fresh_kl

    def _stop(self, reason: StopReason) -> None:
        curve = self.facts.curve.model_copy(update={"stopped": reason})
        self.facts = self.facts.model_copy(update={"curve": curve})

    def _tell(self, share: float) -> None:
        looks = self.facts.curve.looks
        self._training.progress.advance(round(1000 * share), 1000)
        self._training.progress.note(
            f"{self.facts.tokens:,} tokens, KL on fresh text {looks[0].fresh_kl:.4g} → "
            f"{looks[-1].fresh_kl:.4g}"
        )

    def _is_clipped(self) -> bool:
        """Shorten a long gradient; return whether it is one of numbers."""
        norm = nn.utils.clip_grad_norm_(self._parameters.values(), _LONGEST_GRADIENT)
        return bool(torch.isfinite(norm))

    def _state(self) -> TrainingState:
        names = list(self._parameters)
        held = self._optimiser.state_dict()["state"]
        return TrainingState(
            facts=self.facts,
            parameters=self._parameters,
            best=self._best,
            adam={names[index]: tensors for index, tensors in held.items()},
        )

    def _copies(self) -> dict[str, Tensor]:
        return {name: p.detach().cpu().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
