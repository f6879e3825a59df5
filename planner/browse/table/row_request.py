"""What a table in the browser asks for: some rows of those that pass its filters, in its order."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Column = NDArray[Any]
"""Of a table: numbers, none of which are known where they are not finite; or texts."""
_Mask = NDArray[np.bool_]
_MOST_ROWS = 1000
"""Of an answer."""


class _Asked(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class Condition(_Asked):
    """A filter of one column, or two joined, as AG Grid writes them."""

    type: str = ""
    filter: float | str | None = None
    filter_to: float | None = None
    operator: Literal["AND", "OR"] = "AND"
    conditions: list["Condition"] = []

    def holds(self, column: Column) -> _Mask:
        """Return where a column meets it; one that says nothing holds everywhere."""
        if self.conditions:
            join = np.logical_and if self.operator == "AND" else np.logical_or
            return join.reduce([each.holds(column) for each in self.conditions])  # type: ignore[no-any-return]
        if column.dtype == np.float64:
            return self._holds_numbers(column)
        return self._holds_texts(column)

    def _holds_numbers(self, column: Column) -> _Mask:
        known = np.isfinite(column)
        low, high = (
            bound if isinstance(bound, float) else np.nan
            for bound in (self.filter, self.filter_to)
        )
        with np.errstate(invalid="ignore"):
            tests: dict[str, Callable[[], _Mask]] = {
                "equals": lambda: column == low,
                "notEqual": lambda: column != low,
                "lessThan": lambda: column < low,
                "lessThanOrEqual": lambda: column <= low,
                "greaterThan": lambda: column > low,
                "greaterThanOrEqual": lambda: column >= low,
                "inRange": lambda: (column > low) & (column < high),
                "blank": lambda: ~known,
                "notBlank": lambda: known,
            }
            test = tests.get(self.type)
            return np.ones(len(column), dtype=bool) if test is None else test()

    def _holds_texts(self, column: Column) -> _Mask:
        sought = "" if self.filter is None else str(self.filter).casefold()
        tests: dict[str, Callable[[str], bool]] = {
            "contains": lambda text: sought in text,
            "notContains": lambda text: sought not in text,
            "equals": lambda text: text == sought,
            "notEqual": lambda text: text != sought,
            "startsWith": lambda text: text.startswith(sought),
            "endsWith": lambda text: text.endswith(sought),
            "blank": lambda text: not text,
            "notBlank": lambda text: text != "",
        }
        test = tests.get(self.type)
        if test is None:
            return np.ones(len(column), dtype=np.bool_)
        return np.fromiter((test(text.casefold()) for text in column), np.bool_, len(column))


class Order(_Asked):
    """A column that rows are sorted by."""

    col_id: str
    sort: Literal["asc", "desc"]


class RowRequest(_Asked):
    """Rows that a table asks for, of those that pass its filters; AG Grid names the fields."""

    start_row: Annotated[int, Field(ge=0)] = 0
    end_row: Annotated[int, Field(ge=0)] = _MOST_ROWS
    sort_model: list[Order] = []
    filter_model: dict[str, Condition] = {}

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return a request as the page stores it; none asks for all rows as they are."""
        return cls.model_validate(stored or {})

    def found(self, count: int, column: Callable[[str], Column | None]) -> NDArray[np.intp]:
        """Return all rows of a table that pass the filters, in order.

        Args:
            count: Rows of the table.
            column: Returns one of its columns by name; `None`: there is no such.
        """
        passes = np.ones(count, dtype=bool)
        for name, condition in self.filter_model.items():
            values = column(name)
            if values is not None:
                passes &= condition.holds(values)
        rows = np.flatnonzero(passes)
        for order in reversed(self.sort_model):
            values = column(order.col_id)
            if values is not None:
                rows = rows[_sorted(values[rows], is_descending=order.sort == "desc")]
        return rows

    def page(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of some rows that are asked for."""
        return rows[self.start_row : min(self.end_row, self.start_row + _MOST_ROWS)]


def _sorted(values: Column, *, is_descending: bool) -> NDArray[np.intp]:
    """Return the places of values in order: of equals as they are, and last what is not known."""
    if values.dtype != np.float64:
        _, values = np.unique([text.casefold() for text in values], return_inverse=True)
    return np.argsort(-values if is_descending else values, kind="stable")
