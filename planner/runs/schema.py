"""The tables of a run's database: what other programs may read of a run, too."""

import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from planner.runs.records import RunStatus
from planner.runs.tables.cells import DamageError
from search_spaces.errors import RunError

VERSION = 7
"""Goes up whenever an older planner, or a newer one, would misread the tables."""
TABLES = f"""
create table if not exists meta (key text primary key, value text not null);  -- JSON
create table if not exists status (
    id integer primary key check (id = 0),
    state text not null,
    phase text not null,
    share real not null,
    failure text not null,
    eta_seconds real,
    tokens integer not null,
    started_at text not null,  -- ISO 8601, UTC, as all times
    updated_at text not null
);
create table if not exists evaluations (
    id integer primary key,
    genome text not null,
    plan_id text not null,
    round integer not null,
    tokens integer not null,
    seconds real not null,
    failure text,
    costs text not null,  -- JSON: metric → value
    created_at text not null,
    revision integer not null  -- grows with each write: what changed since is what is above
);
create index if not exists evaluations_by_genome on evaluations (genome);
create index if not exists evaluations_by_revision on evaluations (revision);
create table if not exists measurements (
    evaluation_id integer not null references evaluations (id),
    recovery text not null default '',  -- empty: the plan as it was searched
    split text not null check (split in ('search', 'fresh', 'holdout')),
    metric text not null,
    value real,  -- null is not a number
    standard_error real,
    by_window blob,  -- float64, little-endian; null where the value is no mean over windows
    primary key (evaluation_id, recovery, split, metric)
);
create table if not exists recoveries (
    evaluation_id integer not null references evaluations (id),
    recovery text not null check (recovery in ('refit', 'block', 'heal')),
    tokens integer not null,
    seconds real not null,
    failure text,  -- why there are no recovered weights; null where there are
    created_at text not null,
    primary key (evaluation_id, recovery)
);
create table if not exists replies (
    round integer not null,
    genome text not null,
    told blob not null,  -- float64, little-endian
    tokens integer not null,
    seconds real not null,
    primary key (round, genome)
);
create table if not exists plans (plan_id text primary key, json text not null);
insert or ignore into meta (key, value) values ('schema_version', '{VERSION}');
insert or ignore into status
select 0, 'preparing', '', 0.0, '', null, 0, moment, moment
from (select strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') as moment);
"""
_NEXT = "(select coalesce(max(revision), 0) + 1 from evaluations)"
INSERT = f"""
insert into evaluations
(genome, plan_id, round, created_at, tokens, seconds, failure, costs, revision)
values (?, ?, ?, ?, ?, ?, ?, ?, {_NEXT})
returning id
"""
UPDATE = f"""
update evaluations set tokens = ?, seconds = ?, failure = ?, costs = ?, revision = {_NEXT}
where genome = ?
returning id
"""
TOUCH = f"update evaluations set revision = {_NEXT} where plan_id = ? returning id"
WRITE = "insert or replace into measurements values (?, ?, ?, ?, ?, ?, ?)"
RECOVER = "insert or replace into recoveries values (?, ?, ?, ?, ?, ?)"
STATUS_COLUMNS = tuple(column.name for column in fields(RunStatus))
_NAMES = frozenset(
    {"meta", "status", "evaluations", "measurements", "recoveries", "replies", "plans"}
)


def is_blank(connection: sqlite3.Connection) -> bool:
    """Return whether a database holds no tables at all."""
    return not _tables(connection)


def check_version(path: Path, connection: sqlite3.Connection) -> None:
    """Refuse tables of another version.

    Raises:
        RunError: If they are of one.
        DamageError: If they are not those of a run, or it is not recorded.
    """
    version = _written_version(connection)
    if version != VERSION:
        raise RunError(
            f"`{path}` must be of version {VERSION}, got {version}; "
            "use the planner that wrote it, or search again into another --out"
        )


def _written_version(connection: sqlite3.Connection) -> int:
    names = _tables(connection)
    if not names:
        raise DamageError("it is empty")
    if "meta" not in names:
        raise DamageError("it lacks its table `meta`")
    query = "select value from meta where key = 'schema_version'"
    row = connection.execute(query).fetchone()
    if row is None:
        raise DamageError("it lacks its entry `schema_version`")
    if not str(row[0]).isdecimal():
        raise DamageError("its entry `schema_version` is none that a search writes")
    if int(row[0]) == VERSION and (lost := _NAMES - names):
        raise DamageError(f"it lacks its table `{min(lost)}`")
    return int(row[0])


def status_of(row: tuple[Any, ...] | None) -> RunStatus:
    """Return a status from its `STATUS_COLUMNS`.

    Raises:
        DamageError: If there is no row, or none that a search writes.
    """
    if row is None:
        raise DamageError("it lacks its status")
    columns = dict(zip(STATUS_COLUMNS, row, strict=True))
    try:
        return _STATUS.validate_python(columns)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        what = f"its status has {columns[name]!r:.30} as its `{name}`"
        raise DamageError(what) from error


_STATUS = TypeAdapter(RunStatus)


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute("select name from sqlite_master where type = 'table'")
    return {name for (name,) in rows}
