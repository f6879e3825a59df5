"""The column of a table that holds its documents, whatever the format."""

from collections.abc import Iterable, Iterator, Mapping

from search_spaces.errors import DataError, quoted
from search_spaces.suggestions import suggestion

Cell = tuple[str, object]
"""Where a value stands, such as ``line 3``, and the value."""
_KINDS = {
    type(None): "null",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a string",
    bytes: "bytes",
    list: "a list",
    dict: "an object",
}


def texts(cells: Iterable[Cell], name: str, column: str, option: str) -> Iterator[str]:
    """Yield the texts among values of a column; empty ones are none.

    Raises:
        DataError: If one is no text, or no Unicode.
    """
    for place, value in cells:
        if value is None:
            continue
        if not isinstance(value, str):
            raise DataError(
                f"`--column` must hold text, and {quoted(column, 40)} holds {kind_of(value)} in "
                f"{place} of {quoted(name)}; choose another column, or write the text out first"
            )
        if not value.isascii() and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise DataError(
                f"`{option}` must be Unicode, and {place} of {quoted(name)} holds half of a "
                "surrogate pair, which is no character; mend or remove that row"
            )
        yield value


def check_column(
    column: str, columns: Iterable[str], name: str, likely: str | None = None
) -> None:
    """Refuse a column that a table lacks.

    Args:
        column: The one asked for.
        columns: Those there are.
        name: Of the table.
        likely: The one that probably holds the text.

    Raises:
        DataError: If it is none of them.
    """
    names = list(columns)
    if column in names:
        return
    listed = quoted(", ".join(names), 90)
    otherwise = f"set `--column` to {quoted(likely, 30)}" if likely else "give another table"
    raise DataError(
        f"`--column` must be one of {listed} in {quoted(name, 60)}, got {quoted(column, 30)}; "
        f"{suggestion(column, [one for one in names if len(one) < 40], otherwise)}"
    )


def longest_text(row: Mapping[str, object]) -> str | None:
    """Return the column that probably holds the documents, by one row."""
    sizes = {name: len(value) for name, value in row.items() if isinstance(value, str)}
    return max(sizes, key=lambda name: sizes[name], default=None)


def kind_of(value: object) -> str:
    """Return what a value is, as a message calls it."""
    first = value[0] if isinstance(value, list) and value else None
    if isinstance(first, dict) and first.keys() & {"role", "from"}:
        return "a list of messages"
    return _KINDS.get(type(value), "another value")
