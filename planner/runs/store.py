"""The evaluations of one run in SQLite, each written as it lands.

Measurements of the split ``calibration`` are on the search text; the file keeps the former name.
"""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np

from evaluators.metric import Measurement
from evaluators.scoring.score import Score
from planner.runs.records import Evaluation, RescoreSplit, RoundReply
from search_spaces.errors import OutputError, RunError
from search_spaces.space.space import Genome

_VERSION = 3
_FLOAT64 = np.dtype("<f8")
_TABLES = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists evaluations (
    id integer primary key,
    genome text not null unique,
    plan_id text not null,
    round integer not null,
    tokens integer not null,
    seconds real not null,
    failure text,
    created_at text not null
);
create table if not exists measurements (
    evaluation_id integer not null references evaluations (id),
    split text not null check (split in ('calibration', 'fresh', 'holdout', 'exact')),
    metric text not null,
    value real,  -- null is not a number
    standard_error real,
    by_window blob,  -- float64, little-endian; null where the value is no mean over windows
    primary key (evaluation_id, split, metric)
);
create table if not exists replies (
    round integer not null,
    genome text not null,
    told blob not null,  -- float64, little-endian
    tokens integer not null,
    seconds real not null,
    primary key (round, genome)
);
"""
_RECORD = """
insert into evaluations (genome, plan_id, round, tokens, seconds, failure, created_at)
values (?, ?, ?, ?, ?, ?, ?)
on conflict (genome) do update set
    tokens = excluded.tokens, seconds = excluded.seconds, failure = excluded.failure
returning id
"""
_SELECT = """
select id, genome, plan_id, round, tokens, seconds, failure,
    split, metric, value, standard_error, by_window
from evaluations left join measurements on evaluation_id = id
"""


class Store:
    """The database of one run."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for reading and writing; create the tables if there are none.

        Raises:
            RunError: If the file is not the database of a run.
            OutputError: If the database cannot be written.
        """
        with _reading(path), _writing(path):
            store = cls(path, sqlite3.connect(path))
            # WAL lets `front` read while a search writes; FULL syncs each commit, so that even
            # a power cut loses no evaluation: milliseconds against the seconds that one takes
            store._connection.execute("pragma journal_mode = wal")
            store._connection.execute("pragma synchronous = full")
            store._connection.executescript(f"begin; {_TABLES} commit;")
            if store.get_meta("schema_version") is None:
                store.set_meta("schema_version", _VERSION)
        store._check_version()
        return store

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """Open what a finished, running or killed search has written.

        Raises:
            RunError: If there is no such file, or it is not the database of a run.
        """
        with _reading(path):
            store = cls(path, sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True))
            store._check_version()
        return store

    def close(self) -> None:
        """Close; the last connection merges the log, so that a read-only disk can serve it."""
        with suppress(sqlite3.OperationalError):
            self._connection.execute("pragma busy_timeout = 0")
            self._connection.execute("pragma journal_mode = delete")
        self._connection.close()

    def record(self, evaluation: Evaluation) -> None:
        """Write one evaluation atomically, over an earlier one of its genome.

        Raises:
            OutputError: If the disk refuses.
        """
        values = (
            _text(evaluation.genome),
            evaluation.plan_id,
            evaluation.round,
            evaluation.score.tokens,
            evaluation.score.seconds,
            evaluation.score.failure,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        exact = {name: Measurement(value=value) for name, value in evaluation.costs.items()}
        with _writing(self._path), self._connection:
            ((row,),) = self._connection.execute(_RECORD, values).fetchall()
            self._write(row, "calibration", evaluation.quality)
            self._write(row, "fresh", evaluation.fresh)
            self._write(row, "holdout", evaluation.holdout)
            self._write(row, "exact", exact)

    def record_rescore(
        self, plan_id: str, split: RescoreSplit, measurements: Mapping[str, Measurement]
    ) -> None:
        """Write a plan's scores on a re-scoring text, over earlier ones.

        Raises:
            RunError: If the run has no such plan.
            OutputError: If the disk refuses.
        """
        query = "select id from evaluations where plan_id = ?"
        rows = self._connection.execute(query, (plan_id,)).fetchall()
        if not rows:
            raise RunError(f"`plan_id` must be of this run, got {plan_id!r}; see front.csv")
        with _writing(self._path), self._connection:
            for (evaluation_id,) in rows:
                self._write(evaluation_id, split, measurements)

    def evaluations(self) -> list[Evaluation]:
        """Return all evaluations in the order in which they landed."""
        with _reading(self._path):
            return _assemble(self._connection.execute(f"{_SELECT} order by id"))

    def find(self, genome: Genome) -> Evaluation | None:
        """Return the evaluation of a genome, if it has one."""
        with _reading(self._path):
            rows = self._connection.execute(f"{_SELECT} where genome = ?", (_text(genome),))
            return next(iter(_assemble(rows)), None)

    def record_reply(self, batch: int, genome: Genome, reply: RoundReply) -> None:
        """Write the answer that a searcher got on a genome, for one round only.

        Raises:
            OutputError: If the disk refuses.
        """
        blob = reply.values.astype(_FLOAT64).tobytes()
        values = (batch, _text(genome), blob, reply.tokens, reply.seconds)
        with _writing(self._path), self._connection:
            self._connection.execute("insert into replies values (?, ?, ?, ?, ?)", values)

    def replies(self) -> dict[tuple[int, Genome], RoundReply]:
        """Return all replies by round and genome."""
        with _reading(self._path):
            rows = self._connection.execute("select * from replies order by rowid").fetchall()
        return {
            (batch, _genome(text)): RoundReply(
                values=np.frombuffer(blob, dtype=_FLOAT64), tokens=tokens, seconds=seconds
            )
            for batch, text, blob, tokens, seconds in rows
        }

    def set_meta(self, key: str, value: object) -> None:
        """Store a JSON value under a name.

        Raises:
            OutputError: If the disk refuses.
        """
        with _writing(self._path), self._connection:
            query = "insert or replace into meta (key, value) values (?, ?)"
            self._connection.execute(query, (key, json.dumps(value)))

    def get_meta(self, key: str) -> Any:
        """Return the JSON value under a name, ``None`` if there is none."""
        with _reading(self._path):
            query = "select value from meta where key = ?"
            row = self._connection.execute(query, (key,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _write(self, row: int, split: str, measurements: Mapping[str, Measurement]) -> None:
        self._connection.executemany(
            "insert or replace into measurements values (?, ?, ?, ?, ?, ?)",
            [
                (row, split, name, m.value, m.standard_error, _blob(m.by_window))
                for name, m in measurements.items()
            ],
        )

    def _check_version(self) -> None:
        version = self.get_meta("schema_version")
        if version != _VERSION:
            self._connection.close()
            raise RunError(
                f"`{self._path}` must be of version {_VERSION}, got {version!r}; "
                "use the planner that wrote it"
            )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        message = f"`{path}` must be the database of a run, got: {error}; restore it"
        raise RunError(message) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        message = f"`{path}` must be writable, got: {error}; free the disk and go on with --resume"
        raise OutputError(message) from error


def _text(genome: Genome) -> str:
    return ",".join(str(level) for level in genome)


def _genome(text: str) -> Genome:
    return tuple(int(level) for level in text.split(","))


def _assemble(rows: sqlite3.Cursor) -> list[Evaluation]:
    """Return evaluations from joined rows, one row a measurement."""
    heads: dict[int, tuple[Any, ...]] = {}
    splits: dict[int, dict[str, dict[str, Measurement]]] = defaultdict(lambda: defaultdict(dict))
    for row_id, *head, split, metric, value, standard_error, by_window in rows:
        heads[row_id] = tuple(head)
        if split is not None:
            splits[row_id][split][metric] = Measurement(
                value=_number(value),
                standard_error=_number(standard_error),
                by_window=_windows(by_window),
            )
    return [
        Evaluation(
            genome=_genome(genome),
            plan_id=plan_id,
            round=batch,
            score=Score(
                by_window={
                    name: np.array(m.by_window, dtype=np.float64)
                    for name, m in splits[row_id]["calibration"].items()
                },
                tokens=tokens,
                seconds=seconds,
                failure=failure,
            ),
            costs={name: m.value for name, m in splits[row_id]["exact"].items()},
            fresh=splits[row_id]["fresh"],
            holdout=splits[row_id]["holdout"],
        )
        for row_id, (genome, plan_id, batch, tokens, seconds, failure) in heads.items()
    ]


def _blob(by_window: tuple[float, ...]) -> bytes | None:
    return np.array(by_window, dtype=_FLOAT64).tobytes() if by_window else None


def _windows(blob: bytes | None) -> tuple[float, ...]:
    return () if blob is None else tuple(np.frombuffer(blob, dtype=_FLOAT64).tolist())


def _number(stored: float | None) -> float:
    return math.nan if stored is None else stored
