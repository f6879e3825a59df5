"""Rows of JSON: lines, an array, or an object that holds rows; read without a cache."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain

from evaluators.data.text_column import Cell, check_column, kind_of, longest_text
from evaluators.data.text_files import MOST_CHARACTERS, TextFile
from search_spaces.errors import quoted

_LINES = frozenset({".jsonl", ".ndjson", ".jsonlines", ".jl"})
"""Suffixes of JSON whose every line is a row."""
_ROWS_WITHOUT = 1000
"""Rows without a column, after which no row is expected to have it."""
_FAULTS = {
    "Unterminated string": "a string does not end",
    "Extra data": "something follows its end",
    "Expecting property name": "a name in double quotes is missing",
    "Expecting value": "a value is missing",
    "Expecting ':'": "a colon is missing",
    "Expecting ','": "a comma or its end is missing",
    "Invalid control": "a string holds a line end or another control character",
    "Invalid \\": "a backslash stands where none may",
}
"""How messages of the `json` module begin, in our words."""


def json_cells(file: TextFile, column: str) -> Iterator[Cell]:
    """Yield the values of a column, of rows that have it.

    Raises:
        DataError: If the JSON is damaged, or no row has the column.
    """
    columns: dict[str, object] = {}
    """The first value of each."""
    for index, (place, row) in enumerate(_rows(file, column)):
        if not isinstance(row, dict):
            raise file.refusal(
                f"must hold a JSON object for each row, and {place} of {quoted(file.name)} holds "
                f'{kind_of(row)}; write each row as {{"text": "…"}}'
            )
        columns = row | columns
        if column in row:
            yield place, row[column]
        elif index > _ROWS_WITHOUT and column not in columns:
            break
    if columns:
        check_column(column, columns, file.name, longest_text(columns))


def _rows(file: TextFile, column: str) -> Iterator[tuple[str, object]]:
    """Yield rows and where they stand, of JSON lines, an array, or an object that holds rows."""
    lines = file.lines()
    number, line = next(((at, line) for at, line in lines if line.strip()), (0, ""))
    in_lines = file.suffix in _LINES and not line.lstrip().startswith("[")
    if not line:
        return
    if not in_lines and not _is_object(line):
        yield from _unfolded(_parsed(file, _whole(file, line, lines), number), column)
        return
    others = ((at, line) for at, line in lines if line.strip())
    second = next(others, None)
    if second is None and not in_lines:
        yield from _unfolded(_parsed(file, line, number), column)
        return
    for at, row in chain([(number, line)], [second] if second else [], others):
        yield f"line {at}", _parsed(file, row, at)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line, parse_int=float), dict)
    except (ValueError, RecursionError):
        return False


def _whole(file: TextFile, first: str, lines: Iterable[tuple[int, str]]) -> str:
    """Return all of a file whose rows cannot be read one by one."""
    read, size = [first], len(first)
    for _, line in lines:
        read.append(line)
        size += len(line)
        if size > MOST_CHARACTERS:
            raise file.refusal(
                f"must hold JSON rows on lines of their own if it is large, and "
                f"{quoted(file.name)} is one value of more than {MOST_CHARACTERS:,} characters; "
                "write it as JSON lines"
            )
    return "".join(read)


def _unfolded(value: object, column: str) -> Iterator[tuple[str, object]]:
    """Yield the rows of one JSON value: an array, a row, columns, or an object with one table."""
    rows: list[object] = [value]
    if isinstance(value, list):
        rows = value
    elif isinstance(value, dict) and isinstance(value.get(column), list):
        rows = [{column: held} for held in value[column]]
    elif isinstance(value, dict) and column not in value:
        tables = [held for held in value.values() if isinstance(held, list)]
        tables = [held for held in tables if held and isinstance(held[0], dict)]
        rows = tables[0] if len(tables) == 1 else rows
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _parsed(file: TextFile, text: str, line: int) -> object:
    """Parse JSON that begins on a line of this number."""
    try:
        return json.loads(text.rstrip(), parse_int=float)  # integers of any length
    except json.JSONDecodeError as error:
        fault = next(
            (ours for begin, ours in _FAULTS.items() if error.msg.startswith(begin)),
            "it is none",
        )
        line, sign = line + error.lineno - 1, f" at sign {error.colno}"
    except RecursionError:
        fault, sign = "it is nested too deep", ""
    raise file.refusal(
        f"must hold sound JSON, and line {line} of {quoted(file.name)} does not: "
        f"{fault}{sign}; mend or remove it"
    )
