"""What the database of a run says of the run as a whole, each entry with its type."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Self, get_type_hints

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from evaluators.metric import COST_KINDS, metric_names
from planner.runs.records import SearchEffort, Selection
from planner.runs.tables.cells import DamageError
from search_spaces.models.identity import SourceIdentity

_Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def _known(name: str) -> str:
    if name not in metric_names(*COST_KINDS):
        raise ValueError("no cost has this name")
    return name


_CostName = Annotated[str, AfterValidator(_known)]
_FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


@dataclass(frozen=True, kw_only=True)
class RunMetadata:
    """What is known of a run as a whole; `None` until it is."""

    model: SourceIdentity | None = None
    """The model that the run began with."""
    arithmetic: str | None = None
    """The number format and the device that plans are scored with."""
    text: str | None = None
    """Where the search text comes from."""
    text_digest: str | None = None
    """Of the tokens of all windows."""
    order_digest: str | None = None
    """Of the orders of units by importance."""
    space_digest: str | None = None
    """Of what ``space.json`` says."""
    latency_digest: str | None = None
    """Of the latency table, if there is one."""
    cost_names: Annotated[tuple[_CostName, ...], Field(min_length=1)] | None = None
    """The costs that the search minimises."""
    dense: Mapping[_CostName, _Cost] | None = None
    """The dense model's costs."""
    smallest: Mapping[_CostName, _Cost] | None = None
    """The costs of the smallest plan."""
    baselines: Mapping[str, str] | None = None
    """The plan id of each baseline, by name."""
    baselines_within: str | None = None
    """The budget that baselines were made for, if the user limited no cost."""
    spent: SearchEffort | None = None
    """What the search took, once it is finished."""
    finished: Mapping[str, float | None] | None = None
    """The limits that the search came to the end of."""
    selection: Selection | None = None
    """How a plan was last chosen by recovering several, if one was."""
    recipes: tuple[_FolderName, ...] | None = None
    """Of a comparison, the recipes, whose runs are in the folders of these names."""

    @classmethod
    def of(cls, entries: Iterable[tuple[str, str]]) -> Self:
        """Return metadata from JSON by name.

        Raises:
            DamageError: If an entry is none that a search writes; it is named.
        """
        values: dict[str, Any] = {}
        for name, text in entries:
            try:
                values[name] = _adapters()[name].validate_json(text, strict=True)
            except (KeyError, ValidationError):
                values[name] = None
            if values[name] is None:
                raise DamageError(f"its entry `{name!s:.30}` is none that a search writes")
        return cls(**values)

    @property
    def names(self) -> frozenset[str]:
        """The entries that are known."""
        known = (entry.name for entry in fields(self))
        return frozenset(name for name in known if getattr(self, name) is not None)

    def entries(self) -> list[tuple[str, str]]:
        """Return what is known as JSON by name."""
        return [
            (name, _adapters()[name].dump_json(getattr(self, name)).decode())
            for name in sorted(self.names)
        ]


@functools.cache
def _adapters() -> Mapping[str, TypeAdapter[Any]]:
    """Return what reads and writes each entry; none is ever written as null."""
    types = get_type_hints(RunMetadata, include_extras=True)
    return {name: TypeAdapter(kind) for name, kind in types.items()}
