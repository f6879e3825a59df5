"""The two folders of the demo: what it may replace in them, and what it must leave alone."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from planner.runs.folder import (
    DEMO_FILE,
    FRONT_FIGURES,
    FRONT_FILE,
    FRONT_PICTURE,
    LOCK_FILE,
    MANIFEST_FILE,
    SETTINGS_FILE,
    delete,
    is_leftover,
    sort_out,
)
from planner.runs.lock import lock_folder
from search_spaces.atomic_files import (
    atomic_write_text,
    clear_scratch,
    make_folder,
    remove_empty,
    replacing,
    writing,
)
from search_spaces.errors import OutputError

MODEL_FOLDER = "model"
"""The export in the demo's folder."""
SMALL_FOLDER = "small"
"""The demo's second search in its folder, with an export of its own: a demo's folder too."""
PRINTED_FILE = "demo.txt"
"""What the demo printed, beside its evidence."""
_COPIED_FILES = (FRONT_FIGURES, FRONT_FILE, FRONT_PICTURE)
_EVIDENCE = (*_COPIED_FILES, PRINTED_FILE)


def clear_earlier(out: Path) -> None:
    """Delete an earlier demo from a folder that holds nothing else.

    Raises:
        OutputError: If the folder holds something that no demo wrote; all of it stays.
        RunError: If a demo is running in it.
    """
    with writing(out):
        if not out.exists() or (out.is_dir() and all(map(is_leftover, out.iterdir()))):
            return
        if not (out / DEMO_FILE).is_file():
            _refuse_out(out, next(iter(sorted(out.iterdir())), out) if out.is_dir() else out)
    small = out / SMALL_FOLDER
    # refuses a demo that is running
    with lock_folder(out), lock_folder(small) if _is_inner(small) else nullcontext():
        ours, foreign = _sort_out_demo(out)
        if foreign:
            _refuse_out(out, foreign[0])
        delete(ours)


def check_evidence(evidence: Path, out: Path) -> None:
    """Refuse a place that figures cannot be copied to, before the minutes that they take.

    Raises:
        OutputError: If the folder cannot be made or written to, is the demo's own, or holds files
            of these names that no demo left there.
    """
    rule, remedy = "`--evidence` must be a folder that can be written to", "choose another place"
    if evidence.resolve().is_relative_to(out.resolve()):
        raise OutputError(f"{rule}, outside of --out, got `{evidence}`; {remedy}")
    try:
        made = make_folder(evidence)
        is_writable = os.access(evidence, os.W_OK | os.X_OK)
        taken = [name for name in (SETTINGS_FILE, *_EVIDENCE) if os.path.lexists(evidence / name)]
        is_evidence = SETTINGS_FILE not in taken and _is_evidence(evidence)
        remove_empty(made)
    except (OSError, OutputError) as error:
        raise OutputError(f"{rule}, got `{evidence}`; {remedy}") from error
    if not is_writable:
        raise OutputError(f"{rule}, got `{evidence}`; {remedy}")
    if taken and not is_evidence:
        raise OutputError(
            f"{rule} without losing anything, got `{evidence}` with a {taken[0]} that no demo "
            f"left there; {remedy}"
        )


def keep_evidence(out: Path, evidence: Path, printed: str) -> None:
    """Copy the figures of a demo, and what it printed, to another folder.

    Raises:
        OutputError: If it cannot be written to.
    """
    make_folder(evidence)
    for name in _COPIED_FILES:
        with replacing(evidence / name) as temporary:
            shutil.copyfile(out / name, temporary)
    atomic_write_text(evidence / PRINTED_FILE, printed + "\n")


def _is_inner(folder: Path) -> bool:
    """Return whether a demo made a folder inside of its own."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    return (folder / DEMO_FILE).is_file() or all(map(is_leftover, folder.iterdir()))


def _sort_out_demo(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what a demo wrote into its folder, in the order to delete it, and all else there."""
    model, small = folder / MODEL_FOLDER, folder / SMALL_FOLDER
    clear_scratch(model)
    exported, foreign = _sort_out_export(model)
    inner: list[Path] = []
    if _is_inner(small):
        inner, strange = _sort_out_demo(small)
        inner, foreign = [*inner, small], [*foreign, *strange]
    ours, others = sort_out(folder)
    foreign += [path for path in others if path != model and path not in inner]
    # the mark last, so that what a kill leaves is still the demo's
    marks = [path for path in ours if path.name in (DEMO_FILE, LOCK_FILE)]
    return [*inner, *exported, *(path for path in ours if path not in marks), *marks], foreign


def _is_evidence(folder: Path) -> bool:
    """Return whether a demo left its figures in a folder, which it writes first."""
    figures = _read_json(folder / FRONT_FIGURES)
    return isinstance(figures, dict) and figures.get("command") == "make demo"


def _sort_out_export(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files of an export as it was written, and all else in its folder."""
    if folder.is_symlink() or not folder.is_dir():
        return [], [folder] if os.path.lexists(folder) else []
    digests = _written_files(folder)
    ours: list[Path] = []
    foreign: list[Path] = []
    for place, folders, names in os.walk(folder, topdown=False):  # enters no links
        here = Path(place)
        foreign += [here / name for name in folders if (here / name).is_symlink()]
        for path in (here / name for name in names):
            is_ours = not path.is_symlink() and _is_as_written(path, folder, digests)
            (ours if is_ours else foreign).append(path)
        ours.append(here)
    # the manifest after the files that it tells to be ours, for a kill may come between
    ours.sort(key=lambda path: (path.is_dir(), path.name == MANIFEST_FILE))
    return ours, foreign


def _is_as_written(path: Path, folder: Path, digests: Sequence[tuple[str, str]]) -> bool:
    name = path.relative_to(folder).as_posix()
    if digests and name in ("README.md", MANIFEST_FILE):  # written after the rest was listed
        return True
    with path.open("rb") as content:
        return (name, hashlib.file_digest(content, "sha256").hexdigest()) in digests


def _written_files(folder: Path) -> list[tuple[str, str]]:
    """Return name and digest of each file that a manifest lists; none if there is no manifest."""
    try:
        files = _read_json(folder / MANIFEST_FILE)["files"]
        return [(str(name), str(file["sha256"])) for name, file in files.items()]
    except (LookupError, TypeError, AttributeError):
        return []


def _read_json(path: Path) -> Any:
    """Return the value in a JSON file, `None` if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _refuse_out(out: Path, found: Path) -> NoReturn:
    raise OutputError(
        f"`--out` must be free or hold an earlier demo and nothing else, got `{out}` with "
        f"`{found.name}`, which no demo wrote; choose another --out or move it away"
    )
