"""The evaluations of one run in SQLite, each written as it lands."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

from evaluators.metric import Measurement
from planner.runs import rows, schema
from planner.runs.metadata import RunMetadata
from planner.runs.records import (
    Evaluation,
    Recovered,
    Recovery,
    RescoreSplit,
    RoundReply,
    RunStatus,
    now,
)
from planner.runs.refusals import translated
from planner.runs.tables.cells import DamageError, blob_of, text_of, text_of_moment
from planner.runs.tables.connections import opening, read_only
from search_spaces.errors import RunError

if TYPE_CHECKING:
    from search_spaces.space.space import Genome


class Store:
    """The database of one run."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self._read: dict[int, Evaluation] = {}
        self._held: tuple[RunMetadata, RunStatus] | None = None
        self.revision = 0
        """Of the youngest evaluation that was read."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open for reading and writing; create the tables if there are none.

        Raises:
            RunError: If the file is not the database of a run, or in use.
            OutputError: If the database cannot be written.
        """
        with translated(path), opening(sqlite3.connect(path)) as connection:
            # WAL lets `front` read while a search writes; FULL syncs each commit, so that
            # even a power cut loses no evaluation: milliseconds against the seconds one takes
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            if not schema.is_blank(connection):
                schema.check_version(path, connection)
            # at once, so that a killed process leaves all of it or nothing
            connection.executescript(f"begin; {schema.TABLES} commit;")
        return cls(path, connection)

    @classmethod
    def open_read_only(cls, path: Path, *, live: bool = True) -> Self:
        """Open what a finished, running or killed search has written.

        Args:
            path: The file.
            live: Whether to follow what is written later; if not, metadata, status and
                evaluations are read now, as they are at one moment, and stay so.

        Raises:
            RunError: If there is no such file, or it is not the database of a run, or in use.
        """
        with translated(path), opening(read_only(path)) as connection:
            schema.check_version(path, connection)
            store = cls(path, connection)
            if not live:
                with store._one_moment():
                    store._read_younger()
                    store._held = store.metadata(), store.status()
        return store

    @contextmanager
    def _one_moment(self) -> Iterator[None]:
        """See all tables as they are at one moment."""
        with translated(self._path), self._connection as connection:
            connection.execute("begin")
            yield

    @staticmethod
    def is_lost(path: Path) -> bool:
        """Return whether a database is missing, or holds nothing at all.

        Raises:
            RunError: If the file is no database, or in use.
        """
        if not path.is_file():
            return True
        with translated(path), closing(read_only(path)) as connection:
            return schema.is_blank(connection)

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
        content = score.tokens, score.seconds, score.failure, json.dumps(dict(evaluation.costs))
        with translated(self._path), self._connection as connection:
            written = connection.execute(schema.UPDATE, (*content, genome)).fetchall()
            if not written:
                head = genome, evaluation.plan_id, evaluation.round, text_of_moment(now())
                written = connection.execute(schema.INSERT, (*head, *content)).fetchall()
            if len(written) > 1:
                raise DamageError(f"{len(written)} evaluations have the genome {genome:.40}")
            ((row,),) = written
            self._write(row, "search", evaluation.quality)
            self._write(row, "fresh", evaluation.fresh)
            self._write(row, "holdout", evaluation.holdout)

    def record_rescore(
        self, plan_id: str, split: RescoreSplit, measurements: Mapping[str, Measurement]
    ) -> None:
        """Write a plan's scores on a re-scoring text, over earlier ones.

        Raises:
            RunError: If the run has no such plan.
            OutputError: If the disk refuses.
        """
        with translated(self._path), self._connection:
            for row in self._touched(plan_id):
                self._write(row, split, measurements)

    def record_recovery(self, plan_id: str, recovery: Recovery, came_to: Recovered) -> None:
        """Write what a recovery of a plan came to, over an earlier one.

        Raises:
            RunError: If the run has no such plan.
            OutputError: If the disk refuses.
        """
        effort = came_to.tokens, came_to.seconds, came_to.failure, text_of_moment(now())
        with translated(self._path), self._connection as connection:
            for row in self._touched(plan_id):
                forget = "delete from measurements where evaluation_id = ? and recovery = ?"
                connection.execute(forget, (row, recovery))
                connection.execute(schema.RECOVER, (row, recovery, *effort))
                for split, measurements in came_to.by_split.items():
                    self._write(row, split, measurements, recovery)

    def _touched(self, plan_id: str) -> list[int]:
        """Return the rows of a plan, which is about to be changed."""
        touched = self._connection.execute(schema.TOUCH, (plan_id,)).fetchall()
        if not touched:
            raise RunError(f"`plan_id` must be of this run, got {plan_id!r}; see front.csv")
        return [row for (row,) in touched]

    def landed(self, after: int = 0) -> list[Evaluation]:
        """Return evaluations in the order in which they landed; each is read once a change.

        Args:
            after: Only those that landed or changed after this revision.

        Raises:
            RunError: If one is damaged; it is named.
        """
        self._refresh()
        return [e for e in self._read.values() if e.revision > after]

    def count(self) -> int:
        """Return how many evaluations there are, without reading them."""
        with translated(self._path):
            (count,) = self._connection.execute("select count(*) from evaluations").fetchone()
        return int(count)

    def find(self, genome: "Genome") -> Evaluation | None:
        """Return the evaluation of a genome, if it has one."""
        self._refresh()
        return next((e for e in self._read.values() if e.genome == genome), None)

    def _refresh(self) -> None:
        """Read what was written since the last time, by whichever process."""
        if self._held is None:
            with self._one_moment():
                self._read_younger()

    def _read_younger(self) -> None:
        younger, since = "from evaluations where revision > ?", (self.revision,)
        heads = f"select {rows.EVALUATION_COLUMNS} {younger} order by id"
        theirs = f" where evaluation_id in (select id {younger})" if self.revision else ""
        parts = (
            self._connection.execute(
                f"select {columns} from {table}{theirs}", since * bool(theirs)
            )
            for table, columns in rows.OF_EVALUATIONS.items()
        )
        read = rows.evaluations_of(self._connection.execute(heads, since), *parts)
        if read:
            merged = self._read | read  # ids ascend, and an id keeps its place
            rows.check_alike(merged, self.metadata().cost_names or ())
            self._read = merged
            self.revision = max(e.revision for e in read.values())

    def record_reply(self, batch: int, genome: "Genome", reply: RoundReply) -> None:
        """Write the answer that a searcher got on a genome, for one round only.

        Raises:
            OutputError: If the disk refuses.
        """
        values = batch, text_of(genome), blob_of(reply.values), reply.tokens, reply.seconds
        with translated(self._path), self._connection:
            self._connection.execute("insert into replies values (?, ?, ?, ?, ?)", values)

    def replies(self) -> "dict[tuple[int, Genome], RoundReply]":
        """Return all replies by round and genome."""
        with translated(self._path):
            found = self._connection.execute("select * from replies order by rowid")
            return dict(map(rows.reply_of, found))

    def record_plans(self, plans: Mapping[str, str]) -> None:
        """Write plans as JSON, by their ids.

        Raises:
            OutputError: If the disk refuses.
        """
        with translated(self._path), self._connection as connection:
            connection.executemany("insert or replace into plans values (?, ?)", plans.items())

    def plan(self, plan_id: str) -> str | None:
        """Return the JSON of a plan, if it is stored."""
        with translated(self._path):
            query = "select json from plans where plan_id = ?"
            row = self._connection.execute(query, (plan_id,)).fetchone()
            return None if row is None else str(row[0])

    def record_metadata(self, known: RunMetadata) -> None:
        """Write what is known of the run as a whole; what is `None` stays as it is.

        Raises:
            OutputError: If the disk refuses.
        """
        query = "insert or replace into meta values (?, ?)"
        with translated(self._path), self._connection as connection:
            connection.executemany(query, known.entries())

    def metadata(self) -> RunMetadata:
        """Return what is known of the run as a whole.

        Raises:
            RunError: If an entry is damaged; it is named.
        """
        if self._held is not None:
            return self._held[0]
        with translated(self._path):
            query = "select key, value from meta where key <> 'schema_version'"
            return RunMetadata.of(self._connection.execute(query))

    def record_status(self, status: RunStatus) -> None:
        """Write how far the run has come.

        Raises:
            OutputError: If the disk refuses.
        """
        values = [text_of_moment(v) if isinstance(v, datetime) else v for v in astuple(status)]
        columns, marks = ", ".join(schema.STATUS_COLUMNS), ", ?" * len(values)
        query = f"insert or replace into status (id, {columns}) values (0{marks})"
        with translated(self._path), self._connection as connection:
            connection.execute(query, values)

    def status(self) -> RunStatus:
        """Return how far the run has come.

        Raises:
            RunError: If it does not say, or in a state that this version does not know.
        """
        if self._held is not None:
            return self._held[1]
        with translated(self._path):
            query = f"select {', '.join(schema.STATUS_COLUMNS)} from status"
            return schema.status_of(self._connection.execute(query).fetchone())

    def _write(
        self, row: int, split: str, measurements: Mapping[str, Measurement], recovery: str = ""
    ) -> None:
        self._connection.executemany(
            schema.WRITE,
            [
                (row, recovery, split, name, m.value, m.standard_error, blob_of(m.by_window))
                for name, m in measurements.items()
            ],
        )
