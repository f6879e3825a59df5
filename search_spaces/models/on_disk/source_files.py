"""The weights of a model: safetensors in its own folder, and never pickles."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from search_spaces.errors import ModelError, quoted
from search_spaces.models.on_disk.plain_files import find_file, lies_inside, read_bytes, read_json

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


def tensors_in(folder: Path) -> dict[str, StoredTensor]:
    """Return what all safetensors files of a folder say they hold, whatever an index says.

    Raises:
        ModelError: If one leads outside, or is damaged.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        _check_place(folder, file)
        tensors |= read_header(file)
    return tensors


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
