"""A table in the browser gets the rows that it asks for, as AG Grid asks."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from planner.browse.table.row_request import Column, RowRequest

COLUMNS: dict[str, Column] = {
    "kl": np.array([0.3, np.nan, 0.1, 0.2, 0.1]),
    "what": np.array(["on the front", "Failed", "dominated", "on the front · knee", ""], object),
}


def found(**asked: Any) -> list[int]:
    return list(RowRequest.of(asked).found(5, COLUMNS.get))


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"type": "equals", "filter": 0.1}, [2, 4]),
        ({"type": "notEqual", "filter": 0.1}, [0, 1, 3]),
        ({"type": "lessThan", "filter": 0.2}, [2, 4]),
        ({"type": "lessThanOrEqual", "filter": 0.2}, [2, 3, 4]),
        ({"type": "greaterThan", "filter": 0.2}, [0]),
        ({"type": "greaterThanOrEqual", "filter": 0.2}, [0, 3]),
        ({"type": "inRange", "filter": 0.1, "filterTo": 0.3}, [3]),
        ({"type": "blank"}, [1]),
        ({"type": "notBlank"}, [0, 2, 3, 4]),
        ({"type": "of a later version"}, [0, 1, 2, 3, 4]),
    ],
)
def test_numbers_are_filtered(condition: dict[str, Any], rows: list[int]) -> None:
    assert found(filterModel={"kl": {"filterType": "number"} | condition}) == rows


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"type": "contains", "filter": "FRONT"}, [0, 3]),
        ({"type": "notContains", "filter": "front"}, [1, 2, 4]),
        ({"type": "equals", "filter": "failed"}, [1]),
        ({"type": "notEqual", "filter": "failed"}, [0, 2, 3, 4]),
        ({"type": "startsWith", "filter": "dom"}, [2]),
        ({"type": "endsWith", "filter": "knee"}, [3]),
        ({"type": "blank"}, [4]),
        ({"type": "notBlank"}, [0, 1, 2, 3]),
    ],
)
def test_texts_are_filtered(condition: dict[str, Any], rows: list[int]) -> None:
    assert found(filterModel={"what": {"filterType": "text"} | condition}) == rows


def test_filters_of_one_column_are_joined_and_of_several_too() -> None:
    both = [{"type": "lessThan", "filter": 0.15}, {"type": "greaterThan", "filter": 0.25}]
    assert found(filterModel={"kl": {"operator": "OR", "conditions": both}}) == [0, 2, 4]
    assert found(filterModel={"kl": {"operator": "AND", "conditions": both}}) == []
    front = {"type": "contains", "filter": "front"}
    assert found(filterModel={"kl": both[1], "what": front}) == [0]


def test_rows_are_sorted_and_what_is_not_known_comes_last() -> None:
    assert found(sortModel=[{"colId": "kl", "sort": "asc"}]) == [2, 4, 3, 0, 1]
    assert found(sortModel=[{"colId": "kl", "sort": "desc"}]) == [0, 3, 2, 4, 1]
    by_both = [{"colId": "kl", "sort": "asc"}, {"colId": "what", "sort": "asc"}]
    assert found(sortModel=by_both) == [4, 2, 3, 0, 1]
    assert found(sortModel=[{"colId": "gone", "sort": "asc"}]) == [0, 1, 2, 3, 4]


def test_a_page_is_no_longer_than_anybody_reads() -> None:
    rows = np.arange(20_000)
    assert RowRequest.of({"startRow": 100, "endRow": 200}).page(rows).tolist() == [
        *range(100, 200)
    ]
    assert len(RowRequest.of({"startRow": 0, "endRow": 20_000}).page(rows)) == 1000


@pytest.mark.parametrize("asked", [{"startRow": -1}, {"sortModel": 5}, {"filterModel": {"kl": 5}}])
def test_what_no_table_asks_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RowRequest.of(asked)
