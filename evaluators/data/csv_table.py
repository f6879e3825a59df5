"""Rows of text whose columns are separated by commas, semicolons, tabs or bars."""

import csv
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from evaluators.data.text_column import Cell, check_column, longest_text
from evaluators.data.text_files import MOST_CHARACTERS, TextFile
from search_spaces.errors import quoted

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def csv_cells(file: TextFile, column: str) -> Iterator[Cell]:
    """Yield the values of a column, of all rows.

    Raises:
        DataError: If the table is damaged, lacks the column or holds numbers there.
    """
    lines = file.lines()
    number, header = next(((at, line) for at, line in lines if line.strip()), (0, ""))
    csv.field_size_limit(MOST_CHARACTERS)
    whole = (end for line in chain([header], (line for _, line in lines)) for end in _ends(line))
    header = next((line for line in whole if line.strip()), "")
    separator = _separator(file.suffix, header, column)
    reader = csv.reader(chain([header], whole), delimiter=separator, strict=True)
    rows = _rows(file, reader, number)
    _, columns = next(rows, ("", []))
    if not columns:
        return
    first = next(rows, ("", []))
    row = dict(zip(columns, first[1], strict=False))
    check_column(column, columns, file.name, longest_text(row))
    only_numbers = True
    for place, values in chain([first], rows):
        if len(values) > len(columns) and any(values[len(columns) :]):
            raise file.refusal(
                f"must have a value for each column, and {place} of {quoted(file.name)} has "
                f"{len(values)} where the header names {len(columns)}, separated by "
                f"{_SEPARATORS[separator]}; quote texts that hold the separator"
            )
        value = values[columns.index(column)] if columns.index(column) < len(values) else ""
        only_numbers = only_numbers and (not value or _is_number(value))
        yield place, value
    if only_numbers and row.get(column):
        yield "each row", 0.0


def _separator(suffix: str, header: str, column: str) -> str:
    """Return what separates the columns: that which gives the asked one, or else the most."""
    if suffix in {".tsv", ".tab"}:
        return "\t"
    fields = {mark: next(csv.reader([header], delimiter=mark), []) for mark in _SEPARATORS}
    having = [mark for mark in fields if column in fields[mark]]
    return having[0] if having else max(fields, key=lambda mark: len(fields[mark]))


def _ends(line: str) -> list[str]:
    r"""Return a line in parts, which a carriage return alone ends too.

    >>> _ends("a\rb\r\n")
    ['a\r', 'b\r\n']
    """
    return re.findall(r"[^\r]*\r\n?|[^\r]+", line) if "\r" in line else [line]


def _rows(file: TextFile, reader: Any, header: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the rows and the lines they begin on; the header is on a line of this number."""
    while True:
        line = header + reader.line_num
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise file.refusal(
                f"must hold sound CSV, and the row in line {line} of {quoted(file.name)} is not: "
                "a quote does not close or stands amid a value; double the quotes in it"
            ) from error
        if values is None:
            return
        if values:
            yield f"line {line}", values


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
