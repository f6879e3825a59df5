"""The files of a model, read from its own folder only and never as pickles."""

import codecs
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME
from transformers.utils.hub import cached_file

from search_spaces.errors import ModelError, quoted

LARGEST_JSON_BYTES = 2**26
LARGEST_HEADER_BYTES = 100 * 2**20
"""The limit of safetensors itself."""


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """What a file of weights says of one tensor."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """As safetensors calls it, such as ``BF16``."""


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """The safetensors files of a model."""

    files: Mapping[str, Path]
    """By their names in the model's folder."""
    tensors: Mapping[str, StoredTensor]
    """By their names on disk."""
    shards: Mapping[str, str] | None = None
    """Of an index: the name of the file of each tensor; None: there is one file and no index."""


def find_file(source: str, name: str) -> Path | None:
    """Return a file of a model, or `None` if it has none of that name.

    Args:
        source: A HuggingFace folder or a hub name.
        name: In the folder.
    """
    if Path(source).is_dir():
        path = Path(source, name)
        return path if os.path.lexists(path) else None
    find: Any = cached_file
    file = find(
        source,
        name,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if file is None else Path(file)


def lies_inside(folder: Path, path: Path) -> bool:
    """Return whether a path, its links followed, lies in a model's folder.

    A snapshot in a cache of the hub keeps its files as links into the cache's ``blobs``.
    """
    home, target = (Path(os.path.realpath(each)) for each in (folder, path))
    roots = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    return any(target.is_relative_to(root) for root in roots)


def read_bytes(path: Path, largest: int, start: int = 0) -> bytes:
    """Return at most so many bytes of a file of a model, and one more if there are more.

    Raises:
        ModelError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(largest + 1)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> ModelError:
    """Return the sentence for a file or folder that the system does not let us read."""
    shown = quoted(str(path))
    if isinstance(error, PermissionError):
        return ModelError(
            f"a model's files must be readable, and there is no permission to read {shown}; "
            "change its mode or that of its folder, or its owner"
        )
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return ModelError(
            f"a model's files must be there, and {shown} is a link to nothing; "
            "put the file in its place"
        )
    kind = "is a folder" if isinstance(error, IsADirectoryError) else "cannot be opened"
    if error.errno == errno.ELOOP:
        kind = "is a link in a circle"
    return ModelError(f"a model's files must be readable, and {shown} {kind}; put a file there")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model.

    Raises:
        ModelError: If the file cannot be read or holds something else.
    """
    raw = read_bytes(path, LARGEST_JSON_BYTES)
    problem = ""
    value: object = None
    try:
        value = json.loads(raw.decode("utf-8")) if len(raw) <= LARGEST_JSON_BYTES else None
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except json.JSONDecodeError as error:
        problem = f"breaks off or errs in line {error.lineno}" if raw.strip() else "is empty"
        if raw.startswith(codecs.BOM_UTF8):
            problem = "begins with a byte order mark"
    except (ValueError, RecursionError):  # numbers of thousands of digits, thousands of brackets
        problem = "holds what no model does"
    if len(raw) > LARGEST_JSON_BYTES:
        problem = f"has more than {LARGEST_JSON_BYTES >> 20} MiB"
    elif not problem and not isinstance(value, dict):
        problem = f"holds a {_kind(value)}"
    if problem:
        raise ModelError(
            f"{quoted(str(path))} must hold a JSON object, and it {problem}; get a sound copy"
        )
    assert isinstance(value, dict)
    return value


def _kind(value: object) -> str:
    names = {list: "list", str: "text", bool: "truth value", type(None): "null"}
    return names.get(type(value), "number")


def weight_files(source: str) -> WeightFiles:
    """Find a model's weights, as transformers does, and read what their headers say.

    Args:
        source: A HuggingFace folder or a hub name.

    Raises:
        ModelError: If there are none, if an index names anything but safetensors files in the
            folder, or if a file is damaged.
    """
    config = find_file(source, "config.json")
    named = None if config is None else read_json(config).get("transformers_weights")
    candidates: list[object] = [SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME]
    if named is not None:
        candidates = [named]
    for name in candidates:
        _check_name(source, name, "config.json")
        assert isinstance(name, str)
        path = find_file(source, name)
        if path is not None:
            return _indexed(source, path) if name.endswith(".index.json") else _single(path, name)
    raise _without_weights(source, candidates)


def _single(path: Path, name: str) -> WeightFiles:
    _check_place(path.parents[len(PurePosixPath(name).parts) - 1], path)
    return WeightFiles(files={name: path}, tensors=read_header(path))


def _indexed(source: str, index: Path) -> WeightFiles:
    shards = read_json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ModelError(
            f"an index of weights must map their names to files, and {quoted(str(index))} has no "
            "such `weight_map`; get a sound copy"
        )
    names = []
    for name in dict.fromkeys(map(str, shards.values())):
        _check_name(source, name, index.name)
        names.append(name)
    files: dict[str, Path] = {}
    tensors: dict[str, StoredTensor] = {}
    for name in sorted(names):
        path = find_file(source, name)
        if path is None:
            raise ModelError(
                f"a model must hold every file that its index names, and {quoted(source)} has no "
                f"{quoted(name)}; get the missing file"
            )
        if Path(source).is_dir():
            _check_place(Path(source), path)
        files[name] = path
        tensors |= read_header(path)
    missing = sorted(shards.keys() - tensors.keys())
    if missing:
        raise ModelError(
            f"an index must name tensors that its files hold, and {quoted(missing[0])} is in none "
            f"of those of {quoted(str(index))}; get a sound copy"
        )
    kept = {name: tensors[name] for name in shards}
    return WeightFiles(files=files, tensors=kept, shards={k: str(v) for k, v in shards.items()})


def _check_name(source: str, name: object, by: str) -> None:
    """Refuse a name that is no safetensors file within the folder.

    Raises:
        ModelError: If it is another.
    """
    parts = PurePosixPath(str(name)).parts
    is_inside = bool(parts) and not {"..", "/"} & set(parts) and "\0" not in str(name)
    if not is_inside:
        raise ModelError(
            f"weights must lie in the model's folder, and {by} of {quoted(source)} names "
            f"{quoted(str(name))} outside; put the file there and name it without a path"
        )
    if not isinstance(name, str) or not name.endswith((".safetensors", ".safetensors.index.json")):
        raise ModelError(
            f"weights must be safetensors files, for pickles may run code, and {by} of "
            f"{quoted(source)} names {quoted(str(name))}; convert the weights, with "
            "`save_pretrained` where they are trusted"
        )


def _check_place(folder: Path, path: Path) -> None:
    if not lies_inside(folder, path):
        raise ModelError(
            f"weights must lie in the model's folder, and {quoted(str(path))} is a link that "
            "leads outside; copy the file into the folder"
        )


def _without_weights(source: str, candidates: list[object]) -> ModelError:
    folder = Path(source)
    others = sorted(p.name for p in folder.glob("*") if p.suffix in {".bin", ".pt", ".pth"})
    if others and folder.is_dir():
        return ModelError(
            f"weights must be safetensors files, for pickles may run code, and {quoted(source)} "
            f"has only {quoted(others[0])}; convert them, with `save_pretrained` where they are "
            "trusted"
        )
    return ModelError(
        f"a model must hold its weights as safetensors, and {quoted(source)} has no "
        f"{' and no '.join(f'`{name}`' for name in candidates)}; get the missing files"
    )


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors that a safetensors file says it holds, by name.

    Raises:
        ModelError: If it cannot be read, or is no whole safetensors file.
    """
    size = read_bytes(path, 8)[:8]
    length = int.from_bytes(size, "little")
    entries: object = None
    if len(size) == 8 and length <= LARGEST_HEADER_BYTES:
        try:
            entries = json.loads(read_bytes(path, length, start=8)[:length])
        except (ValueError, RecursionError):
            entries = None
    tensors = _entries(path, entries) if isinstance(entries, dict) else None
    if tensors is None or path.stat().st_size != 8 + length + _data_bytes(entries):
        raise ModelError(
            f"{quoted(str(path))} must be a whole safetensors file, and its "
            f"{path.stat().st_size} bytes are none: it is damaged or cut off; get a sound copy"
        )
    return tensors


def _entries(path: Path, entries: Mapping[str, Any]) -> dict[str, StoredTensor] | None:
    try:
        return {
            name: StoredTensor(
                file=path, shape=tuple(map(int, entry["shape"])), dtype=str(entry["dtype"])
            )
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (LookupError, TypeError, ValueError):
        return None


def _data_bytes(entries: Any) -> int:
    try:
        ends = [int(e["data_offsets"][1]) for n, e in entries.items() if n != "__metadata__"]
    except (LookupError, TypeError, ValueError):
        return -1
    return max(ends, default=0)
