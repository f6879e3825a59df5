"""Exports of a run's plans that lie in its folder or beside it, with what was measured of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from planner.runs.folder import EXPORTS_FILE, MANIFEST_FILE
from planner.runs.run_store import RunStore
from search_spaces.models.identity import difference

if TYPE_CHECKING:
    from planner.export.cards.manifest import Manifest

_MOST_BYTES = 2**22
"""Of a manifest; it has a line for each file of an export."""


@dataclass(frozen=True, kw_only=True)
class KnownExport:
    """An export of a plan, as its manifest describes it."""

    folder: Path
    manifest: "Manifest"


def known_exports(
    run: RunStore, root: Path | None = None
) -> Mapping[str, tuple[KnownExport, ...]]:
    """Return the exports of a run's plans that lie in its folder or beside it, by plan.

    An export belongs to the run if it is of the same plan of the same model, whoever made it.

    Args:
        run: The run.
        root: A folder outside of which nothing is read; by default there is none.
    """
    model = run.metadata.model
    if model is None:
        return {}
    found: dict[str, tuple[KnownExport, ...]] = {}
    for folder, manifest in _manifests(run.folder.absolute(), root):
        if not difference(model, manifest.model, "the search"):
            export = KnownExport(folder=folder, manifest=manifest)
            found[manifest.plan_id] = (*found.get(manifest.plan_id, ()), export)
    return found


def _manifests(run_folder: Path, root: Path | None) -> Iterator[tuple[Path, "Manifest"]]:
    places = [run_folder]
    if root is None or run_folder.parent.is_relative_to(root.absolute()):
        places.append(run_folder.parent)
    for folder in (inner for place in places for inner in _exports(place)):
        manifest = read_manifest(folder)
        if manifest is not None:
            yield folder, manifest


def _exports(place: Path) -> Iterator[Path]:
    """Yield the folders in a place that may hold an export, those of many exports included."""
    for folder in _folders(place):
        yield from _folders(folder) if (folder / EXPORTS_FILE).is_file() else (folder,)


def _folders(place: Path) -> list[Path]:
    """Return the folders in a place by name, without links: these may lead anywhere."""
    try:
        return sorted(p for p in place.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:  # another user's
        return []


def read_manifest(folder: Path) -> "Manifest | None":
    """Return what the folder of an export says of it; `None` if it says nothing that we know."""
    path = folder / MANIFEST_FILE
    try:
        found = path.lstat()
        is_plain = path.is_file() and not path.is_symlink() and found.st_size <= _MOST_BYTES
        return _read(path, found.st_mtime_ns, found.st_size) if is_plain else None
    except OSError:
        return None


@lru_cache(256)
def _read(path: Path, mtime_ns: int, size: int) -> "Manifest | None":  # noqa: ARG001  (the key)
    from pydantic import ValidationError  # noqa: PLC0415  (few runs have exports)

    from planner.export.cards.manifest import Manifest  # noqa: PLC0415  (as above)

    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError:  # another program's, or of a model that was made otherwise
        return None
