"""What was measured of an export, in a file next to it."""

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from evaluators.latency.workload import Latency, Workload
from evaluators.metric import Measurement, exponential
from planner.export.cards.origin import Origin
from planner.recovery.recovery_record import RecoveryRecord
from planner.targets.target_names import TargetName
from search_spaces.models.identity import ModelIdentity

_TOLD = ("dtype", "file_type")
"""Options of a target that say how it is served."""


class Quality(BaseModel):
    """One quality metric with its standard error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    standard_error: float

    @classmethod
    def of_all(cls, measured: Mapping[str, Measurement]) -> "dict[str, Quality]":
        """Return measurements, by name, as a manifest holds them."""
        return {
            name: cls(value=m.value, standard_error=m.standard_error)
            for name, m in measured.items()
        }


class Prediction(BaseModel):
    """What the run's latency table predicts, and how far it is off."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    dense: Latency
    pruned: Latency
    error: float
    """Predicted over measured milliseconds of a request to the pruned model, less 1."""
    share_error: float
    """The same of the request as a share of the dense model's."""

    @classmethod
    def compared(
        cls, predicted: Mapping[str, Latency], measured: Mapping[str, Latency], workload: Workload
    ) -> Self:
        """Compare predictions for ``dense`` and ``pruned`` with measurements."""
        predicted_ms, measured_ms = (
            {name: workload.request_ms(latency) for name, latency in latencies.items()}
            for latencies in (predicted, measured)
        )
        error = predicted_ms["pruned"] / measured_ms["pruned"]
        return cls(
            dense=predicted["dense"],
            pruned=predicted["pruned"],
            error=error - 1,
            share_error=error * measured_ms["dense"] / predicted_ms["dense"] - 1,
        )


class Perplexity(BaseModel):
    """Of a model on held-out text, in the runtime that serves it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    value: float
    standard_error: float | None
    """By how the windows of the text differ; `None`: there is one."""
    windows: int

    @classmethod
    def of(cls, nll: Sequence[float]) -> Self:
        """Return it, given the mean negative log-likelihood in each window, in nats a token."""
        value = exponential(statistics.fmean(nll))
        error = value * statistics.stdev(nll) / math.sqrt(len(nll)) if len(nll) > 1 else None
        return cls(value=value, standard_error=error, windows=len(nll))

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.2f}"
        return f"{self.value:.2f}{error}"


class Service(BaseModel):
    """How an export is served beside the dense model, measured in its runtime."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    runtime: str
    runtime_version: str
    served_as: dict[str, str]
    """Such as the ``dtype`` that it computes in, or the ``file_type`` of its weights."""
    device: str
    threads: int
    perplexity: dict[str, Perplexity]
    """``dense`` and ``pruned``; empty without held-out text."""
    file_bytes: dict[str, int]
    """Of the files with the weights of ``dense`` and ``pruned``, as this format has them."""
    workload: Workload
    """That latency was measured for."""
    latency: dict[str, Latency]
    """``dense`` and ``pruned``, measured end to end in turns; medians."""
    latency_missing: str = ""
    """Why there is none, in words; empty: it was measured."""
    prediction: Prediction | None
    """`None` if the run has no latency table of this runtime, or latency was not measured."""

    def __str__(self) -> str:
        served_as = [value for name, value in self.served_as.items() if name in _TOLD]
        return ", ".join([f"{self.runtime} {self.runtime_version}", *served_as, self.device])


class File(BaseModel):
    """One file of the export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an export is, what it was made from, and what was measured of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[3] = 3
    plan_id: str
    format: TargetName = "hf"
    source: str
    """The dense model as the user named it."""
    model: ModelIdentity
    origin: Origin = Origin()
    """What the dense model says of its licence and its base."""
    needs_remote_code: bool
    """Whether loading takes ``trust_remote_code=True``, for code of ours that lies here."""
    tokenizer_needs_remote_code: bool = False
    """Whether loading the tokenizer does, for code that it brought."""
    requires: str = ""
    """Versions of the runtime that read it as meant; empty: all that know its family."""
    loading: str
    """How it is loaded in each runtime, in Markdown."""
    text: str = ""
    """What it was searched and fitted on; empty for a plan from a file."""
    text_options: dict[str, str] = {}
    """How that was read: ``split``, ``column`` and, where it was named, ``holdout``."""
    recovery: RecoveryRecord | None = None
    """How its weights were recovered, and the learning curve; `None`: they are as searched."""
    compensate: str = ""
    """How kept weights were updated to compensate for pruned ones; empty: they were not."""
    experts: str = ""
    """What is kept of a mixture's experts, in a sentence; empty if there are none."""
    notes: list[str] = []
    """What a reader should know of how its weights were made and are stored, in sentences."""
    costs: dict[str, float]
    """Of the export: params, size in bytes of tensors, macs and kv for each token; latency and
    throughput as predicted, where the run had a table."""
    written_size: float | None = None
    """Bytes of the tensors as they were written, where ``size`` counts number formats that they
    are dequantised from; `None`: they are ``size``."""
    dense_costs: dict[str, float]
    search: dict[str, Quality]
    """On the search text; empty for a plan from a file."""
    holdout: dict[str, Quality]
    """On held-out text; empty if the plan was not on the front."""
    logit_gap: float
    """Largest difference between the reloaded model's logits and the scored candidate's."""
    cache_gap: float
    """Largest difference between its logits with a cache and without."""
    logit_gap_allowed: float
    written_tokens: int
    """Tokens that it writes as the scored candidate does, of those that were tried."""
    macs_context: int
    """Tokens attended to, in ``macs``."""
    service: Service
    """How it is served in the runtime that it is for."""
    files: dict[str, File]
    environment: dict[str, object]


def describe_files(folder: Path) -> dict[str, File]:
    """Return size and hash of every file in a folder."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        files[path.relative_to(folder).as_posix()] = File(bytes=path.stat().st_size, sha256=digest)
    return files
