"""Data sets of the Hugging Face hub, by name: the one place where a cache and a network count."""

import re
from collections.abc import Iterator
from typing import Any

from evaluators.data.text_column import check_column, longest_text, texts
from search_spaces.errors import DataError, quoted


def documents_of_data_set(data: str, *, split: str, column: str, option: str) -> Iterator[str]:
    """Yield the texts of a named data set, as ``wikitext:wikitext-2-raw-v1``.

    Raises:
        DataError: If it cannot be loaded, or lacks the column or text there.
    """
    name, _, configuration = data.partition(":")
    table = _loaded(data, option, name, configuration or None, split)
    first = table[0] if len(table) else {}
    check_column(column, table.column_names, data, longest_text(first))
    cells = ((f"row {number}", value) for number, value in enumerate(table[column], 1))
    yield from texts(cells, data, column, option)


def _loaded(data: str, option: str, name: str, configuration: str | None, split: str) -> Any:
    import datasets  # noqa: PLC0415  (two seconds, and only named data sets need it)

    try:
        return datasets.load_dataset(name, name=configuration, split=split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason, remedy = _reason(error, datasets, split)
        raise DataError(
            f"`{option}` must be a file that exists or a data set of the hub, and {quoted(data)} "
            f"is no file here, {reason}; {remedy}"
        ) from error


def _reason(error: Exception, datasets: Any, split: str) -> tuple[str, str]:
    """Return why a data set was not loaded, and the remedy, in our words."""
    said = str(error)
    if isinstance(error, PermissionError) or (isinstance(error, OSError) and error.errno == 30):
        return "and the cache of data sets cannot be written", "set `HF_HOME` to a folder of yours"
    if isinstance(error, datasets.exceptions.DatasetNotFoundError):
        return "and the hub shows no such data set", "check the name, or log in if it is private"
    if isinstance(error, ConnectionError) or "offline" in said.lower():
        return "and the hub cannot be reached", "check the path, or the network"
    names = quoted(", ".join(re.findall(r"'([\w.-]+)'", said.partition("[")[2])) or "another", 60)
    if "split" in said.lower():
        return f"and has no split {quoted(split, 40)}", f"set `--split` to one of {names}"
    if "config" in said.lower():
        return "and needs another configuration", f"name one of {names} after a colon"
    return "and it cannot be loaded", "check the name and the network"
