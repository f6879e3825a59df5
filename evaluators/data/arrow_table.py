"""Rows of parquet and Arrow files, read through pyarrow without a cache."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from evaluators.data.text_column import Cell, check_column, longest_text
from evaluators.data.text_files import MOST_CHARACTERS, TextFile, unreadable
from search_spaces.errors import quoted


def parquet_cells(file: TextFile, column: str) -> Iterator[Cell]:
    """Yield the values of a column of a parquet file.

    Raises:
        DataError: If the file is damaged or lacks the column.
    """
    from pyarrow import parquet  # noqa: PLC0415  (only such tables need it)

    with _source(file) as source:
        table = parquet.ParquetFile(source)
        if column not in table.schema_arrow.names:
            _refuse_column(file, column, table.iter_batches(batch_size=1), table.schema_arrow)
        yield from _values(table.iter_batches(columns=[column], batch_size=256), column)


def arrow_cells(file: TextFile, column: str) -> Iterator[Cell]:
    """Yield the values of a column of an Arrow file, or of a stream as `datasets` saves it.

    Raises:
        DataError: If the file is damaged or lacks the column.
    """
    from pyarrow import ipc  # noqa: PLC0415  (only such tables need it)

    with _source(file) as source:
        is_stream = source.read(6) != b"ARROW1"
        source.seek(0)
        table = ipc.open_stream(source) if is_stream else ipc.open_file(source)
        count = 0 if is_stream else table.num_record_batches
        batches = table if is_stream else (table.get_batch(index) for index in range(count))
        if column not in table.schema.names:
            _refuse_column(file, column, batches, table.schema)
        yield from _values(batches, column)


@contextmanager
def _source(file: TextFile) -> Iterator[Any]:
    """Open a file for pyarrow, which reads it where it likes."""
    import pyarrow  # noqa: PLC0415  (only such tables need it)

    try:
        with file.opened() as stream:
            if isinstance(stream.raw, io.BufferedReader):  # as it lies on disk
                yield pyarrow.PythonFile(stream, mode="r")
                return
            content = stream.read(MOST_CHARACTERS + 1)
            if len(content) > MOST_CHARACTERS:
                raise file.refusal(
                    f"must be a table of at most {MOST_CHARACTERS:,} bytes if it is packed, and "
                    f"{quoted(file.name)} is larger; unpack it"
                )
            yield pyarrow.BufferReader(content)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise unreadable(file.name, file.option, error) from error


def _refuse_column(file: TextFile, column: str, batches: Iterable[Any], schema: Any) -> None:
    batch = next(iter(batches), None)
    rows: list[dict[str, object]] = [] if batch is None else batch.slice(0, 1).to_pylist()
    check_column(column, schema.names, file.name, longest_text(rows[0] if rows else {}))


def _values(batches: Iterable[Any], column: str) -> Iterator[Cell]:
    number = 0
    for batch in batches:
        place = batch.schema.names.index(column)  # the first of that name, as in CSV
        for value in batch.column(place).to_pylist():
            number += 1
            yield f"row {number}", value
