"""Folders of runs as the page may find them: sound, broken, old, half written, oddly named."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from planner.runs.folder import DATABASE_FILE, SETTINGS_FILE

SCRIPT = "<script>alert(1)</script>"
ODD_NAME = "<img src=x onerror=alert(1)> & 'ö'"


def copy_run(run: Path, folder: Path, *, with_weights: bool = False) -> Path:
    """Copy of a run what a look at it needs, and maybe the weights that its exports need."""
    needless = ["run.lock", *([] if with_weights else ["levels", "statistics"])]
    return Path(shutil.copytree(run, folder, ignore=shutil.ignore_patterns(*needless)))


def write_odd_runs(folder: Path, run: Path) -> None:
    """Fill a folder with runs that each have something the page must live with.

    Args:
        folder: To fill.
        run: A sound one, to be copied.
    """
    copy_run(run, folder / "sound")
    copy_run(run, folder / ODD_NAME)
    _rename_model(copy_run(run, folder / "script"), SCRIPT)
    _age(copy_run(run, folder / "old"))
    damaged = copy_run(run, folder / "broken") / DATABASE_FILE
    damaged.write_bytes(b"no database" * 1000)
    cut = copy_run(run, folder / "cut") / DATABASE_FILE
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    begun = folder / "begun"
    begun.mkdir()
    shutil.copy(run / SETTINGS_FILE, begun)
    (folder / "notes").mkdir()
    (folder / "notes" / "todo.txt").write_text("no run", encoding="utf-8")


def _rename_model(run: Path, name: str) -> None:
    settings = run / SETTINGS_FILE
    lines = settings.read_text(encoding="utf-8").splitlines()
    (place,) = (i for i, line in enumerate(lines) if line.startswith("model:"))
    lines[place] = f"model: {json.dumps(name)}"
    settings.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _age(run: Path) -> None:
    """Make the tables those of an older planner."""
    with closing(sqlite3.connect(run / DATABASE_FILE)) as connection, connection:
        connection.execute("update meta set value = '3' where key = 'schema_version'")
