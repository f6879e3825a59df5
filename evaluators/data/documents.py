"""Reading the user's text: a file, a folder or a data set's name."""

from pathlib import Path
from typing import Any

from search_spaces.errors import DataError

TABLES = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
"""Suffixes that the `datasets` library reads, with its name for the format."""


def read_documents(data: str, *, split: str = "train", column: str = "text") -> list[str]:
    """Return the documents of a text source, in order.

    Args:
        data: A text, JSONL, parquet or CSV file, a folder of such files, or a data set's name
            for `datasets`, with its configuration after a colon: ``wikitext:wikitext-2-raw-v1``.
        split: Split of a named data set.
        column: Column that holds the text, for anything but plain text.

    Raises:
        DataError: If there is no text, or it cannot be read as text.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if _is_visible(file, path)]
        documents = [text for file in files for text in _read_file(file, column)]
    elif path.is_file():
        documents = _read_file(path, column)
    elif path.suffix[1:].isalpha() or data.startswith((".", "/", "~")):  # no version, as in x-2.5
        raise DataError(f"`--data` must be a file that exists, got `{data}`; check the path")
    else:
        documents = _read_named(data, split, column)
    documents = [text for text in documents if text.strip()]
    if not documents:
        raise DataError(f"calibration text must hold words, and `{data}` is empty; give another")
    return documents


def _is_visible(path: Path, folder: Path) -> bool:
    """Return whether a path is a file that no hidden name leads to."""
    parts = path.relative_to(folder).parts
    return path.is_file() and not any(part.startswith(".") for part in parts)


def _read_file(path: Path, column: str) -> list[str]:
    kind = TABLES.get(path.suffix)
    if kind is None:
        return [_read_text(path)]
    return _column(_load(kind, str(path), data_files=str(path), split="train"), str(path), column)


def _read_text(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"calibration text must be readable, and `{path}` is not: {error.strerror}; "
            "check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"calibration text must be UTF-8, and `{path}` is not at byte {error.start}; "
            "convert it, or give a text, JSONL or parquet file"
        ) from error
    if "\0" in text:
        raise DataError(
            f"calibration text must be text, and `{path}` is binary; "
            "give a text, JSONL or parquet file"
        )
    return text


def _read_named(data: str, split: str, column: str) -> list[str]:
    name, _, configuration = data.partition(":")
    table = _load(name, data, name=configuration or None, split=split)
    return _column(table, data, column)


def _load(kind: str, data: str, **options: Any) -> Any:
    import datasets  # noqa: PLC0415  (two seconds, and only tables need it)

    try:
        return datasets.load_dataset(kind, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(
            f"`--data` must be text that `datasets` can load, and `{data}` is not: "
            f"{reason[:200]}; check the name, split and network"
        ) from error


def _column(table: Any, data: str, column: str) -> list[str]:
    if column not in table.column_names:
        raise DataError(
            f"`--column` must be one of {', '.join(table.column_names)} in `{data}`, "
            f"got `{column}`"
        )
    values = table[column]
    documents = [value for value in values if isinstance(value, str)]
    if not documents and len(table):
        raise DataError(
            f"`--column` must hold text, and `{column}` of `{data}` holds other values; "
            "choose another column, or write the text out first"
        )
    return documents
