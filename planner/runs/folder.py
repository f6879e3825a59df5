"""Every file name in the folder of a run, a comparison or the demo; and what may be deleted there.

Nothing is deleted in such a folder but what has one of these names, and no link is followed.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from planner.settings import search
from search_spaces.atomic_files import (
    discard,
    finished_name,
    is_abandoned,
    remove_empty,
    replacing,
)
from search_spaces.errors import RunError

SETTINGS_FILE = search.SETTINGS_FILE
"""Settings of the search; they mark the folder as a run."""
DATABASE_FILE = "run.sqlite"
"""Every evaluation, written as it lands."""
ENVIRONMENT_FILE = "environment.json"
"""Versions, device and commit that the run was made with."""
LOCK_FILE = "run.lock"
"""Held while a process searches in the folder."""
CALIBRATION_FILE = "calibration.npz"
"""Tokens of all windows."""
ORDER_FILE = "ranking.npz"
"""Order of the units, and the sensitivity prior."""
SPACE_FILE = "space.json"
"""What the run chooses among: sites, levels, what each keeps, and what it costs."""
LATENCY_FILE = "latency.json"
"""The latency table that the run predicts by."""
STATISTICS_FOLDER = "statistics"
"""Calibration statistics, layer by layer, while weights may still be built from them."""
LEVELS_FOLDER = "levels"
"""The cache of pruned weights."""
WEIGHTS_FILE = "weights.jsonl"
"""Which pruned weights plans were scored with, should the cache lose them."""
RECOVERED_FOLDER = "recovered"
"""Recovered weights: of each variant of a plan a folder, such as ``a1b2c3d4e5-refit``."""
RECOVERY_FILE = "recovery.json"
"""What a recovery came to, beside its weights, which are files of one layer each."""
FRONT = "front"
"""In the place of a plan's id: what all plans of the front share."""
HEALING_FILE = "healing.safetensors"
"""Where a healing that goes on stands, until it is over."""
PREPARED_FOLDERS = (STATISTICS_FOLDER, LEVELS_FOLDER)
"""Folders that preparing a run fills, and can fill again."""
FRONT_FILE = "front.csv"
"""The front as a table."""
FRONT_PICTURE = "front.png"
FRONT_VECTORS = ("front.svg", "front.pdf")
"""The same picture for papers."""
REPORT_FILE = "report.html"
"""All that a run says, as one page."""
FRONT_FIGURES = "front.json"
"""What the demo measured, its front included."""
COMPARISON_FILE = "compare.csv"
"""The results of several recipes, one row a recipe."""
COMPARISON_PICTURE = "compare.png"
MANIFEST_FILE = "manifest.json"
"""What was measured of an export, in its own folder."""
EXPORTS_FILE = "exports.json"
"""What became of many exports; it marks their folder, so that a killed command goes on there."""
DEMO_FILE = ".planner-demo"
"""Marks a folder as made by the demo, which may replace it."""
_LIVING_FILES = (LOCK_FILE, *(f"{DATABASE_FILE}{suffix}" for suffix in ("-wal", "-shm")))
_RESULT_FILES = (
    *(FRONT_FILE, FRONT_PICTURE, *FRONT_VECTORS, FRONT_FIGURES, REPORT_FILE),
    *(COMPARISON_FILE, COMPARISON_PICTURE),
)
_FILES = (
    *(SETTINGS_FILE, DATABASE_FILE, f"{DATABASE_FILE}-journal", ENVIRONMENT_FILE, DEMO_FILE),
    *(CALIBRATION_FILE, ORDER_FILE, SPACE_FILE, LATENCY_FILE, WEIGHTS_FILE, HEALING_FILE),
    *(*_LIVING_FILES, *_RESULT_FILES),
)
_OURS = re.compile(
    "|".join(
        [
            *map(re.escape, _FILES),
            rf"{STATISTICS_FOLDER}/layer-\d+\.safetensors",
            rf"{LEVELS_FOLDER}/[^/]+/\d+(-[^/]+)?\.safetensors",
            rf"{RECOVERED_FOLDER}/[^/]+/({RECOVERY_FILE}|layer-\d+\.safetensors)",
        ]
    )
)
_OUR_FOLDERS = re.compile(
    rf"{STATISTICS_FOLDER}|{LEVELS_FOLDER}(/[^/]+)?|{RECOVERED_FOLDER}(/({FRONT}|[0-9a-f]+)-[a-z]+)?"
)


def recovered_folder(run: Path, plan_id: str, recovery: str) -> Path:
    """Return where a run keeps the recovered weights of a plan."""
    return run / RECOVERED_FOLDER / f"{plan_id}-{recovery}"


def layer_file(layer: int) -> str:
    """Return the name of the file of a layer's recovered weights."""
    return f"layer-{layer}.safetensors"


def sort_out(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what the product wrote into the folder of a run, and all else that lies there.

    Returns:
        Our files and folders, each folder after what is in it, unfinished files of dead processes
        among them; and the rest, of which a folder stands for all that is in it.
    """
    ours: list[Path] = []
    others: list[Path] = []
    for place, folders, names in os.walk(folder):  # enters no links
        here = Path(place)
        entered = [name for name in folders if _is_our_folder(here / name, folder)]
        others += [here / name for name in folders if name not in entered]
        folders[:] = entered
        ours += [here / name for name in entered]
        for name in names:
            (ours if _is_our_file(here / name, folder) else others).append(here / name)
    return sorted(ours, key=lambda path: -len(path.parts)), others


def carry(names: Iterable[str], source: Path, folder: Path) -> None:
    """Copy those files of a run that it has and that the folder of another one has not."""
    for name in names:
        if (source / name).is_file() and not (folder / name).is_file():
            with replacing(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)


def check_no_links(folder: Path) -> None:
    """Refuse a run of which a file is a link, which may lead anywhere.

    Whoever looks through a folder of runs asks it; a run that a user names may be made of links.

    Raises:
        RunError: If one is.
    """
    for name in dict.fromkeys((*_FILES, *_LIVING_FILES)):
        if name not in _RESULT_FILES and (folder / name).is_symlink():
            raise RunError(
                f"`{folder / name}` must be a file of the run itself, got a link; copy what it "
                "leads to into its place"
            )


def delete(paths: Iterable[Path]) -> None:
    """Delete files and empty folders; a folder that holds something stays."""
    for path in paths:
        if path.is_dir():
            remove_empty([path])
        else:
            discard(path)


def delete_prepared(folder: Path, name: str) -> None:
    """Delete one of the `PREPARED_FOLDERS` of a run, but for what is not the product's."""
    ours, _ = sort_out(folder)
    delete(path for path in ours if path.relative_to(folder).parts[0] == name)


def delete_abandoned(folder: Path) -> None:
    """Delete the unfinished files that killed processes left in the folder of a run."""
    ours, _ = sort_out(folder)
    delete(path for path in ours if finished_name(path) is not None)


def is_leftover(path: Path) -> bool:
    """Return whether a process that was killed before its run began may have left a file."""
    return path.name in (LOCK_FILE, DEMO_FILE) or (
        path.is_file() and finished_name(path) in _FILES
    )


def _is_our_folder(path: Path, root: Path) -> bool:
    relative = path.relative_to(root).as_posix()
    return _OUR_FOLDERS.fullmatch(relative) is not None and not path.is_symlink()


def _is_our_file(path: Path, root: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    finished = finished_name(path)
    if finished is not None and not is_abandoned(path):
        return False
    relative = path.relative_to(root).with_name(finished or path.name).as_posix()
    return _OURS.fullmatch(relative) is not None
