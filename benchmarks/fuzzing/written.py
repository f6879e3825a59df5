"""What commands leave on disk: whether it is whole, and what it says."""

import csv
import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import yaml
from safetensors import safe_open

_TIMED = ("seconds", "choosing_seconds")


def check_finished(command: str, out: Path) -> None:
    """Raise an error if a command has not left what it promises."""
    if command == "search":
        check_run(out)
        (out / "front.csv").read_text(encoding="utf-8").index("plan_id")
    elif command == "compare":
        (out / "compare.csv").read_text(encoding="utf-8").index("recipe")
    elif command in {"export", "to-moe"}:
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        for name, file in manifest["files"].items():
            found = hashlib.sha256((out / name).read_bytes()).hexdigest()
            if found != file["sha256"]:
                raise ValueError(f"{name} is not what its manifest says")
        json.loads((out / "config.json").read_text(encoding="utf-8"))
        (out / "README.md").read_text(encoding="utf-8").index("# ")


def check_run(out: Path) -> None:
    """Raise an error if a folder is not one that a search could go on with."""
    yaml.safe_load((out / "settings.yaml").read_text(encoding="utf-8"))["version"]
    with closing(sqlite3.connect(out / "run.sqlite")) as connection:
        connection.execute("select count(*) from evaluations").fetchone()


def figures(out: Path) -> dict[str, object]:
    """Return what a finished command found, without what it took."""
    found: dict[str, object] = {}
    for name in ("front.csv", "compare.csv"):
        for path in out.rglob(name):
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
            kept = [{k: v for k, v in row.items() if k not in _TIMED} for row in rows]
            found[str(path.relative_to(out))] = kept
    for path in out.rglob("*.safetensors"):
        if "levels" not in path.parts:
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def read(path: Path) -> None:
    """Read a file of a run by its suffix; an error means that it is not whole."""
    reader = _READERS.get(path.suffix)
    if reader is not None:
        reader(path)


def _read_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def _read_yaml(path: Path) -> None:
    if not yaml.safe_load(path.read_text(encoding="utf-8")):
        raise ValueError("it is empty")


def _read_arrays(path: Path) -> None:
    with np.load(path) as arrays:
        for name in arrays:
            arrays[name]


def _read_tensors(path: Path) -> None:
    with safe_open(path, "np") as tensors:
        tensors.keys()


def _read_table(path: Path) -> None:
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if not rows or len(set(map(len, rows))) > 1:
        raise ValueError("a row is not whole")


def _read_picture(path: Path) -> None:
    if not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
        raise ValueError("its end is missing")


_READERS: Mapping[str, Callable[[Path], None]] = {
    ".json": _read_json,
    ".yaml": _read_yaml,
    ".npz": _read_arrays,
    ".safetensors": _read_tensors,
    ".csv": _read_table,
    ".png": _read_picture,
}
