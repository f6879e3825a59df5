"""What was measured of an export, in a file beside it."""

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from search_spaces.plan import ModelIdentity


class Quality(BaseModel):
    """One quality metric with its standard error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    standard_error: float


class Speed(BaseModel):
    """Measured latency, batch 1, float32, medians."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefill_ms: float
    decode_ms: float


class File(BaseModel):
    """One file of the export."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an export is, where it came from, and what was measured of it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    version: Literal[1] = 1
    plan_id: str
    source: str
    """The dense model as the user named it."""
    model: ModelIdentity
    needs_remote_code: bool
    """Whether loading takes ``trust_remote_code=True``."""
    costs: dict[str, float]
    """Of the export: params, size in bytes of tensors, macs and kv for each token."""
    dense_costs: dict[str, float]
    calibration: dict[str, Quality]
    """As the search scored it; empty for a plan from a file."""
    holdout: dict[str, Quality]
    """On text that no decision saw; empty where it was not on the front."""
    logit_gap: float
    """Largest difference between the reloaded model's logits and the scored candidate's."""
    cache_gap: float
    """Largest difference between its logits with a cache and without."""
    logit_gap_allowed: float
    macs_context: int
    """Tokens attended to, in ``macs``."""
    threads: int
    """That latency was measured with."""
    latency: dict[str, Speed]
    """``dense`` and ``pruned``, measured side by side; prefill of 128 tokens, decode of one."""
    files: dict[str, File]
    environment: dict[str, object]


def describe_files(folder: Path) -> dict[str, File]:
    """Give size and hash of every file of a folder."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        files[path.name] = File(bytes=path.stat().st_size, sha256=digest)
    return files
