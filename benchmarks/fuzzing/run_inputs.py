"""Inputs on disk that the planner itself wrote once: settings, plans, the database and files."""

import random
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import yaml

from benchmarks.fuzzing.materials import BUDGET, Asked, Place
from benchmarks.fuzzing.model_inputs import plant
from benchmarks.fuzzing.odd import damaged, misspelt, odd_json, odd_text, pick
from benchmarks.fuzzing.option_inputs import odd_yaml

_WORDS = (
    "",
    "x",
    "1",
    "a,b,c",
    "1,2",
    ",",
    "0,0,0,0",
    "-1,-1,-1,-1",
    "9" * 400,
    "nan",
    "null",
    "{}",
)
_BYTES = (b"", b"\1\2\3", b"\0" * 8, b"\xff" * 16, b"\0\0\0\0\0\0\xf8\x7f" * 2, b"\0" * 800)
_NUMBERS = (0, 1, -1, 2, 2**31, 2**63 - 1, -(2**63), 0.5, 1e308, float("inf"), -0.1)
_CELLS: list[object] = [None, *_WORDS, "\ud800", "a" * 10**5, *_BYTES, *_NUMBERS]
_STATEMENTS = (
    "drop table {table}",
    "delete from {table}",
    "alter table {table} rename to other",
    "alter table {table} add column other integer not null default 1",
    "create view other as select * from {table}",
    "create trigger other after insert on {table} begin select raise(abort, 'no'); end",
    "alter table {table} rename column {column} to other",
    "update {table} set {column} = null",
    "update meta set value = '99' where key = 'schema_version'",
    "delete from meta where key = 'schema_version'",
    "pragma user_version = 7",
    "pragma application_id = 7",
)


def settings(place: Place) -> Asked:
    """Return a command on a run whose settings are odd."""
    run = place.copy("run")
    text = (run / "settings.yaml").read_text(encoding="utf-8")
    if place.rng.random() < 0.12:  # a run that somebody else sent, with its model
        plant(place, place.copy("Llama", "model"), place.rng)
        values = {**yaml.safe_load(text), "model": "model"}
        place.write("run/settings.yaml", yaml.safe_dump({**values, "trust_remote_code": True}))
        return _export()
    place.write("run/settings.yaml", odd_yaml(text, place.rng))
    return _reader(place)


def plans(place: Place) -> Asked:
    """Return the export of a model by an odd plan."""
    rng, plan = place.rng, place.copy("plan.json")
    text = plan.read_text(encoding="utf-8")
    data = _odd_ranges(text, rng).encode() if rng.random() < 0.3 else odd_json(text, rng)
    place.write("plan.json", data)
    words = ["export", str(place.materials.path("Llama")), "--plan=plan.json", "--out=out"]
    return Asked(words=words, out="out")


def _odd_ranges(text: str, rng: random.Random) -> str:
    """Change which units a component keeps, or its other words."""
    before = '"kept": "'
    places = [start for start in range(len(text)) if text.startswith(before, start)]
    start = rng.choice(places) + len(before)
    end = text.index('"', start)
    ranges = ["", "0", "0-1", "1-0", "0-999999999", "0,0", "1,0", "-1", "0-", ",", "0-1,1-2", "a"]
    ranges += ["٣", "0 - 1", "0-1,", "0;1", "+1", "00", "0x1", misspelt(text[start:end], rng)]
    kept = rng.choice(ranges).replace('"', "").replace("\\", "")
    return text[:start] + kept + text[end:]


def database(place: Place) -> Asked:
    """Return a command on a run whose database is odd."""
    run, rng = place.copy("run"), place.rng
    path = run / "run.sqlite"
    kind = rng.random()
    if kind < 0.2:
        place.write("run/run.sqlite", damaged(path.read_bytes(), rng))
    elif kind < 0.25:
        place.write("run/run.sqlite-wal", rng.choice((b"", b"\x37\x7f\x06\x82" + b"x" * 500)))
        place.write("run/run.sqlite-shm", b"\0" * 32768)
    else:
        with closing(sqlite3.connect(path)) as connection:
            for _ in range(rng.choice((1, 2, 3))):
                with suppress(sqlite3.Error, UnicodeError, OverflowError), connection:
                    _change_rows(connection, place)
    return _reader(place)


def _change_rows(connection: sqlite3.Connection, place: Place) -> None:
    """Change a cell, a row or the schema; what a rule of the schema forbids is left."""
    rng = place.rng
    names = connection.execute("select name from sqlite_master where type = 'table'").fetchall()
    table = pick([name for (name,) in names], rng)
    described = connection.execute(f"pragma table_info({table})").fetchall()
    column = pick([row[1] for row in described], rng)
    kind, place_of_row = rng.random(), rng.random()
    (count,) = connection.execute(f"select count(*) from {table}").fetchone()
    row = connection.execute(
        f"select rowid from {table} order by rowid limit 1 offset {int(count * place_of_row)}"
    ).fetchone()
    if kind < 0.15 or row is None:
        statement = rng.choice(_STATEMENTS).format(table=table, column=column)
        place.remarks.append(statement)
        connection.execute(statement)
    elif kind < 0.25:
        place.remarks.append(f"delete from {table}, row {row}")
        connection.execute(f"delete from {table} where rowid = ?", row)
    elif kind < 0.5:
        keys = [key for (key,) in connection.execute("select key from meta order by key")]
        key, value = pick(keys, rng), _odd_meta(connection, rng)
        place.remarks.append(f"meta {key} = {value[:80]!r}")
        connection.execute("update meta set value = ? where key = ?", (value, key))
    else:
        cell = rng.choice(_CELLS)
        place.remarks.append(f"{table}.{column} = {str(cell)[:80]!r}, row {row}")
        only = "where rowid = ?" if rng.random() < 0.4 else "where 1 or ?"
        connection.execute(f"update {table} set {column} = ? {only}", (cell, *row))


def _odd_meta(connection: sqlite3.Connection, rng: random.Random) -> str:
    keys = [key for (key,) in connection.execute("select key from meta order by key")]
    (text,) = connection.execute(
        "select value from meta where key = ?", (pick(keys, rng),)
    ).fetchone()
    if rng.random() < 0.3:
        return odd_text(rng)
    return odd_json(text, rng).decode("utf-8", "replace")


def files(place: Place) -> Asked:
    """Return a command on a run with an odd file, link or folder in it."""
    run, rng = place.copy("run"), place.rng
    names = sorted(
        str(path.relative_to(place.work))
        for path in run.rglob("*")
        if path.is_file() and path.suffix not in {".lock", ".png"}
    )
    # as many of one kind as of another, whatever a version of the planner writes
    kind = pick({Path(name).parts[1] for name in names}, rng)
    name = pick([name for name in names if Path(name).parts[1] == kind], rng)
    path, choice = place.work / name, rng.random()
    if choice < 0.65:
        data = path.read_bytes()
        if path.suffix == ".json":
            place.write(name, odd_json(data.decode(), rng))
        else:
            place.write(name, damaged(data, rng))
    else:
        path.unlink()
        _put_instead(path, rng)
        place.remarks.append(
            f"{name} is now {'a folder' if path.is_dir() else 'absent or a link'}"
        )
    return _reader(place)


def _put_instead(path: Path, rng: random.Random) -> None:
    kind = rng.randrange(5)
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        path.symlink_to(path.name)  # to itself
    elif kind == 3:
        path.symlink_to("/dev/null")
    elif kind == 4:
        path.symlink_to(Path("..", "..", "beside.txt"))


def _reader(place: Place) -> Asked:
    """Return a command that reads ``run``."""
    rng = place.rng
    kind = rng.random()
    if kind < 0.35:
        options = ["", f"--budget={BUDGET}", "--knee", "--budgets=0.7x,0.9x", "--stability"]
        return Asked(words=["front", "run", *filter(None, [rng.choice(options)])])
    if kind < 0.4:
        return Asked(words=["front", str(place.materials.path("run")), "--against=run"])
    if kind < 0.65:
        return _export()
    more = rng.choice(([], ["--evaluations=6"], ["--evaluations=6"]))
    words = [*place.materials.search, "--out=run", "--resume", *more]
    return Asked(words=words, changes=("run",))


def _export() -> Asked:
    words = ["export", "run", f"--budget={BUDGET}", "--out=out"]
    # what the run says of itself is made again where it is damaged and the model is there
    return Asked(words=words, out="out", changes=("run/space.json",))
