"""What a recovery was given and what it came to, as it is kept beside its weights."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from planner.runs.records import RECOVERIES, Recovery


class CurvePoint(BaseModel):
    """How well the weights did at one moment of a recovery, on text kept apart for that."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tokens: int
    seconds: float
    kl: float
    """To the dense model, in nats a token."""


class RecoveryRecord(BaseModel):
    """What a recovery was given and what it came to, beside its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    plan_id: str
    recovery: Recovery
    origin: str
    """What identifies the dense model and the run's text."""
    settings: Mapping[str, Any]
    tokens: int
    """Of text that the weights were fitted to, each as often as it was run."""
    seconds: float
    curve: tuple[CurvePoint, ...] = ()
    """The first point is of the weights that it began with."""
    layers: Mapping[int, str] = {}
    """The layers that changed, each with the digest of its tensors."""
    shared: str = ""
    """Digest of the updates that all plans of a front share, which are added; empty: none are."""

    @property
    def digest(self) -> str:
        """What identifies all tensors."""
        return hashlib.sha256("".join(self.layers.values()).encode()).hexdigest()[:16]


def recovery_note(record: RecoveryRecord) -> str:
    """Return how weights were recovered, in a sentence."""
    told = f"{RECOVERIES[record.recovery]} on {record.tokens:,} tokens"
    if record.curve:
        first, last = record.curve[0].kl, min(point.kl for point in record.curve)
        told += f", which took KL on text kept apart from {first:.3f} to {last:.3f}"
    return f"Its weights were recovered: {told}."
