"""Reading the user's text: a file, a folder, a pattern of names or a data set's name."""

from collections.abc import Callable, Iterator

from evaluators.data.arrow_table import arrow_cells, parquet_cells
from evaluators.data.csv_table import csv_cells
from evaluators.data.hub_data_set import documents_of_data_set
from evaluators.data.json_table import json_cells
from evaluators.data.text_column import Cell, texts
from evaluators.data.text_files import (
    MOST_CHARACTERS,
    TextFile,
    tell_of_the_rest,
    text_files,
)
from evaluators.data.text_places import files_in, text_paths
from search_spaces.errors import DataError, quoted


def read_documents(
    data: str, *, split: str = "train", column: str = "text", option: str = "--data"
) -> list[str]:
    """Return the documents of a text source, in order, as far as they can be used.

    Args:
        data: A file of text, JSON, CSV, parquet or Arrow, compressed or not, a folder or archive
            of them, a folder of `save_to_disk`, a pattern of names, or a data set's name for
            `datasets`, with its configuration after a colon: ``wikitext:wikitext-2-raw-v1``.
        split: Split of a data set.
        column: Column that holds the text, for anything but plain text.
        option: That gives ``data``.

    Raises:
        DataError: If there is no text, or it cannot be read as text.
    """
    documents, characters = [], 0
    for text in _documents(data, split, column, option):
        if text.strip():
            documents.append(text)
            characters += len(text)
        if characters > MOST_CHARACTERS:
            tell_of_the_rest(data)
            break
    if not documents:
        raise DataError(f"`{option}` must hold words, and {quoted(data)} is empty; give another")
    return documents


def _documents(data: str, split: str, column: str, option: str) -> Iterator[str]:
    paths = text_paths(data, option)
    if paths is None:
        yield from documents_of_data_set(data, split=split, column=column, option=option)
        return
    for path in paths:
        for inside in files_in(path, split, option):
            for file in text_files(inside, option):
                cells = _reader(file.suffix)
                if cells is None:
                    yield file.text()
                else:
                    yield from texts(cells(file, column), file.name, column, option)


def _reader(suffix: str) -> Callable[[TextFile, str], Iterator[Cell]] | None:
    """Return what reads the columns of files with a suffix; None: they are plain text."""
    match suffix:
        case ".json" | ".jsonl" | ".ndjson" | ".jsonlines" | ".jl":
            return json_cells
        case ".csv" | ".psv" | ".tsv" | ".tab":
            return csv_cells
        case ".parquet" | ".pq":
            return parquet_cells
        case ".arrow" | ".feather" | ".ipc":
            return arrow_cells
        case _:
            return None
