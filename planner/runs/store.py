"""The evaluations of one run in SQLite, each written as it lands.

Measurements of the split ``calibration`` are on the search text; the file keeps the former name.
"""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from evaluators.metric import Measurement
from planner.runs.metadata import check_entry
from planner.runs.records import Evaluation, RescoreSplit, RoundReply
from planner.runs.refusals import translated
from planner.runs.rows import DamageError, blob_of, evaluations_of, reply_of, text_of
from search_spaces.errors import RunError
from search_spaces.space.space import Genome

_VERSION = 3
_TABLES = f"""
create table if not exists meta (key text primary key, value text not null);
create table if not exists evaluations (
    id integer primary key,
    genome text not null,
    plan_id text not null,
    round integer not null,
    tokens integer not null,
    seconds real not null,
    failure text,
    created_at text not null
);
create index if not exists evaluations_by_genome on evaluations (genome);
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
insert or ignore into meta (key, value) values ('schema_version', '{_VERSION}');
"""
_INSERT = """
insert into evaluations (genome, plan_id, round, tokens, seconds, failure, created_at)
values (?, ?, ?, ?, ?, ?, ?)
returning id
"""
_UPDATE = (
    "update evaluations set tokens = ?, seconds = ?, failure = ? where genome = ? returning id"
)
_HEADS = "select id, genome, plan_id, round, tokens, seconds, failure from evaluations"
_MEASUREMENTS = """
select evaluation_id, split, metric, value, standard_error, by_window from measurements
"""
_NAMES = frozenset({"meta", "evaluations", "measurements", "replies"})
"""Of the tables."""


class Store:
    """The database of one run."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._read: list[Evaluation] = []
        self._read_at: tuple[int, int] | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for reading and writing; create the tables if there are none.

        Raises:
            RunError: If the file is not the database of a run, or in use.
            OutputError: If the database cannot be written.
        """
        with translated(path):
            store = cls(path, sqlite3.connect(path))
            try:
                # WAL lets `front` read while a search writes; FULL syncs each commit, so that
                # even a power cut loses no evaluation: milliseconds against the seconds one takes
                store._connection.execute("pragma journal_mode = wal")
                store._connection.execute("pragma synchronous = full")
                if not store._is_blank():
                    store._check_version()
                # at once, so that a killed process leaves all of it or nothing
                store._connection.executescript(f"begin; {_TABLES} commit;")
            except BaseException:
                store._connection.close()
                raise
        return store

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """Open what a finished, running or killed search has written.

        Raises:
            RunError: If there is no such file, or it is not the database of a run, or in use.
        """
        with translated(path):
            store = cls(path, sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True))
            try:
                store._check_version()
            except BaseException:
                store._connection.close()
                raise
        return store

    @classmethod
    def is_lost(cls, path: Path) -> bool:
        """Return whether a database is missing, or holds nothing at all.

        Raises:
            RunError: If the file is no database, or in use.
        """
        if not path.is_file():
            return True
        with translated(path):
            connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            try:
                return cls(path, connection)._is_blank()
            finally:
                connection.close()

    def close(self) -> None:
        """Close; the last connection merges the log, so that a read-only disk can serve it."""
        with suppress(sqlite3.OperationalError, sqlite3.ProgrammingError):  # closed, or in use
            self._connection.execute("pragma busy_timeout = 0")
            self._connection.execute("pragma journal_mode = delete")
        self._connection.close()

    def record(self, evaluation: Evaluation) -> None:
        """Write one evaluation atomically, over an earlier one of its genome.

        Raises:
            RunError: If two have its genome, in a file that was edited.
            OutputError: If the disk refuses.
        """
        genome, score = text_of(evaluation.genome), evaluation.score
        effort = score.tokens, score.seconds, score.failure
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        exact = {name: Measurement(value=value) for name, value in evaluation.costs.items()}
        with translated(self._path), self._connection as connection:
            rows = connection.execute(_UPDATE, (*effort, genome)).fetchall()
            if not rows:
                head = genome, evaluation.plan_id, evaluation.round, *effort, now
                rows = connection.execute(_INSERT, head).fetchall()
            if len(rows) > 1:
                raise DamageError(f"{len(rows)} evaluations have the genome {genome:.40}")
            ((row,),) = rows
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
        with translated(self._path), self._connection:
            rows = self._connection.execute(query, (plan_id,)).fetchall()
            if not rows:
                raise RunError(f"`plan_id` must be of this run, got {plan_id!r}; see front.csv")
            for (evaluation_id,) in rows:
                self._write(evaluation_id, split, measurements)

    def evaluations(self) -> list[Evaluation]:
        """Return all evaluations in the order in which they landed.

        They are read again only if one was written since.

        Raises:
            RunError: If one is damaged; it is named.
        """
        with translated(self._path):
            ((version,),) = self._connection.execute("pragma data_version")
            now = version, self._connection.total_changes
            if now != self._read_at:
                self._read, self._read_at = self._select(), now
        return list(self._read)

    def find(self, genome: Genome) -> Evaluation | None:
        """Return the evaluation of a genome, if it has one."""
        with translated(self._path):
            return next(iter(self._select(genome)), None)

    def _select(self, genome: Genome | None = None) -> list[Evaluation]:
        """Read the evaluation of one genome, or all."""
        heads, measurements, values = f"{_HEADS} order by id", _MEASUREMENTS, []
        if genome is not None:
            heads, values = f"{_HEADS} where genome = ?", [text_of(genome)]
            measurements += "where evaluation_id in (select id from evaluations where genome = ?)"
        with self._connection as connection:
            connection.execute("begin")  # both tables as they are at one moment
            return evaluations_of(
                connection.execute(heads, values),
                connection.execute(measurements, values),
                self.get_meta("cost_names") or (),
            )

    def record_reply(self, batch: int, genome: Genome, reply: RoundReply) -> None:
        """Write the answer that a searcher got on a genome, for one round only.

        Raises:
            OutputError: If the disk refuses.
        """
        values = batch, text_of(genome), blob_of(reply.values), reply.tokens, reply.seconds
        with translated(self._path), self._connection:
            self._connection.execute("insert into replies values (?, ?, ?, ?, ?)", values)

    def replies(self) -> dict[tuple[int, Genome], RoundReply]:
        """Return all replies by round and genome."""
        with translated(self._path):
            rows = self._connection.execute("select * from replies order by rowid")
            return dict(map(reply_of, rows))

    def set_meta(self, key: str, value: object) -> None:
        """Store a JSON value under a name.

        Raises:
            OutputError: If the disk refuses.
        """
        with translated(self._path), self._connection:
            query = "insert or replace into meta (key, value) values (?, ?)"
            self._connection.execute(query, (key, json.dumps(value)))

    def get_meta(self, key: str) -> Any:
        """Return the JSON value under a name, ``None`` if there is none.

        Raises:
            RunError: If it is damaged.
        """
        with translated(self._path):
            query = "select value from meta where key = ?"
            row = self._connection.execute(query, (key,)).fetchone()
            if row is None:
                return None
            try:
                value = json.loads(row[0])
            except (ValueError, TypeError, RecursionError) as error:
                raise DamageError(f"its entry `{key}` is no JSON") from error
            check_entry(key, value)
            return value

    def _write(self, row: int, split: str, measurements: Mapping[str, Measurement]) -> None:
        self._connection.executemany(
            "insert or replace into measurements values (?, ?, ?, ?, ?, ?)",
            [
                (row, split, name, m.value, m.standard_error, blob_of(m.by_window))
                for name, m in measurements.items()
            ],
        )

    def _is_blank(self) -> bool:
        """Return whether there are no tables.

        Raises:
            DamageError: If there are others than a run's.
        """
        rows = self._connection.execute("select name from sqlite_master where type = 'table'")
        names = {name for (name,) in rows}
        if names and not names >= _NAMES:
            raise DamageError(f"it lacks its table `{min(_NAMES - names)}`")
        return not names

    def _check_version(self) -> None:
        if self._is_blank():
            raise DamageError("it is empty")
        version = self.get_meta("schema_version")
        if version is None:
            raise DamageError("it lacks its entry `schema_version`")
        if version != _VERSION:
            raise RunError(
                f"`{self._path}` must be of version {_VERSION}, got {version!r:.20}; "
                "use the planner that wrote it"
            )
