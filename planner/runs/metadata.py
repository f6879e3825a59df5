"""What the database of a run says of the run as a whole, each entry with its type."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from evaluators.metric import COST_KINDS, metric_names
from planner.runs.records import SearchEffort
from planner.runs.rows import DamageError

_Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_CostName = Literal[metric_names(*COST_KINDS)]  # type: ignore[valid-type]
_FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_TYPES: Mapping[str, Any] = {
    "arithmetic": str,
    "baselines": dict[str, str],
    "baselines_within": str,
    "calibration": str,
    "calibration_digest": str,
    "cost_names": Annotated[list[_CostName], Field(min_length=1)],
    "dense": dict[_CostName, _Cost],
    "finished": dict[str, float | None],
    "latency": str,
    "model": dict[str, Any],
    "order": str,
    "recipes": list[_FolderName],
    "schema_version": int,
    "smallest": dict[_CostName, _Cost],
    "spent": SearchEffort,
}


def check_entry(key: str, value: object) -> None:
    """Refuse an entry that is not of its type.

    Raises:
        DamageError: If it is none that a search writes.
    """
    try:
        adapter(key).validate_python(value, strict=key != "spent")
    except ValidationError as error:
        raise DamageError(f"its entry `{key}` is none that a search writes") from error


@functools.cache
def adapter(key: str) -> TypeAdapter[Any]:
    """Return what reads an entry from JSON values."""
    return TypeAdapter(_TYPES.get(key, Any))
