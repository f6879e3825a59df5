"""Models that are exports of ours, and what they stand on."""

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedConfig

_Class = TypeVar("_Class")

WIRING_VERSION = 3
"""Of what ``config.wiring`` and the lists beside it hold."""


def wiring_of(config: PreTrainedConfig) -> Mapping[str, Any] | None:
    """Return what an export with our code says of its wiring; None: a config is of none."""
    wiring = getattr(config, "wiring", None)
    is_own = config.model_type.startswith("pruned_") and isinstance(wiring, dict)
    return wiring if is_own else None


def code_digest(code: str) -> str:
    """Return the mark by which an export knows the code that it was written with."""
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def runs_its_own_code(of: type, wiring: Mapping[str, Any]) -> bool:
    """Return whether a class of an export is of the code that the export was written with."""
    file = sys.modules[of.__module__].__file__
    assert file is not None  # transformers runs code from files alone
    return code_digest(Path(file).read_text(encoding="utf-8")) == wiring.get("code")


def stock_class(of: type[_Class]) -> type[_Class]:
    """Return the class of transformers that a class with code of its own is made from, or is."""
    return next(base for base in of.__mro__ if not comes_with_code(base))


def comes_with_code(of: type) -> bool:
    """Return whether a class came with a model, and is none of transformers."""
    return of.__module__.startswith("transformers_modules.")
