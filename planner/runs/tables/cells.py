"""Single values of a run's tables: as they are written, and checked as they are read."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import METRICS

if TYPE_CHECKING:
    from search_spaces.space.space import Genome

NUMBER = (int, float)
_FLOAT64 = np.dtype("<f8")
_NONE: NDArray[np.float64] = np.zeros(0)
ROUNDING = 1e-3
"""How far below its least value rounding may take a metric."""


class DamageError(Exception):
    """What a sound database never holds; the message says where."""


def damage(number: object, what: str) -> DamageError:
    """Return the error for what an evaluation of this number is or has."""
    return DamageError(f"evaluation {number!s:.20} {what}")


def text_of(genome: "Genome") -> str:
    """Return a genome as it is stored."""
    return ",".join(str(level) for level in genome)


def text_of_moment(moment: datetime) -> str:
    """Return a time as it is stored."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")


def blob_of(values: Sequence[float] | NDArray[np.float64]) -> bytes | None:
    """Return numbers as they are stored; none for no numbers."""
    return np.asarray(values, dtype=_FLOAT64).tobytes() if len(values) else None


def numbers_of(blob: Any) -> NDArray[np.float64]:
    """Return numbers that `blob_of` wrote."""
    return np.frombuffer(blob, dtype=_FLOAT64).astype(np.float64, copy=False)


def quality_of(
    number: object, metric: object, value: Any, error: Any, by_window: object
) -> tuple[float, float, NDArray[np.float64]]:
    """Return a quality from its row: its value, the standard error, the value of each window.

    Args:
        number: Of the evaluation that it is of.
        metric: Its name.
        value: Its mean.
        error: The standard error of that.
        by_window: Numbers as `blob_of` writes them.

    Raises:
        DamageError: If the row is none that a search writes.
    """
    known = METRICS.get(str(metric))
    if known is None or known.is_cost:
        raise damage(number, f"has an unknown score `{metric!s:.20}`")
    if not (is_number(value) and is_number(error)):
        raise damage(number, f"has no number as its {metric}")
    mean, error = or_nan(value), or_nan(error)
    if mean < known.lowest - ROUNDING or error < 0:
        what = f"has a {metric} below its least value, or a negative error of {metric}"
        raise damage(number, what)
    if by_window is not None and not is_blob(by_window):
        raise damage(number, f"has no windows of {metric}")
    windows = _NONE if by_window is None else numbers_of(by_window)
    if not _is_mean(mean, windows.tolist()):
        raise damage(number, f"has a {metric} that is not the mean of its windows")
    return mean, error, windows


def moment_of(number: object, text: object) -> datetime:
    """Return a time that `text_of_moment` wrote.

    Raises:
        DamageError: If it is none.
    """
    try:
        moment = datetime.fromisoformat(text)  # type: ignore[arg-type]  # what is none is refused
    except (ValueError, TypeError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise damage(number, "has no time")
    return moment


def is_count(value: object) -> bool:
    """Return whether a value counts something."""
    return isinstance(value, int) and value >= 0


def is_sound(value: object) -> bool:
    """Return whether a value is an amount, such as of seconds."""
    return isinstance(value, NUMBER) and 0 <= value < math.inf


def is_number(value: object) -> bool:
    """Return whether a value is a number, or stands for what is none."""
    return value is None or isinstance(value, NUMBER)


def is_blob(value: object) -> bool:
    """Return whether a value holds numbers as `blob_of` writes them."""
    return isinstance(value, bytes) and len(value) > 0 and len(value) % _FLOAT64.itemsize == 0


def or_nan(stored: Any) -> float:
    """Return a number; null is what SQLite makes of one that is not a number."""
    return math.nan if stored is None else stored


def _is_mean(mean: float, values: list[float]) -> bool:
    if not (values and math.isfinite(mean)):
        return True
    gap = abs(sum(values) / len(values) - mean)  # quicker than numpy's for so few
    return gap <= max(1e-9, 1e-6 * abs(mean))
