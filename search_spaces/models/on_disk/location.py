"""From the name that a user gives a model to the folder or hub name that is loaded."""

import os
from pathlib import Path

from search_spaces.errors import ModelError, quoted
from search_spaces.models.gguf import unpack_gguf
from search_spaces.models.on_disk.plain_files import check_kind, read_bytes, read_json, unreadable
from search_spaces.paths import existing_path

LONGEST_NAME = 1024
"""Characters of a path; no file system takes longer ones."""
_FILE_SUFFIXES = frozenset({".json", ".jinja", ".model", ".safetensors"})


def locate_source(name: str) -> str:
    """Return what transformers loads for the user's name of a model.

    Raises:
        ModelError: If there is no such model, or it may not be read.
    """
    path = _path_of(name)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise unreadable(path, error) from error
    if path.suffix == ".gguf" and path.is_file():
        read_bytes(path, 0)
        return str(unpack_gguf(path))
    if path.is_dir():
        _check_folder(name, path)
        return str(path)
    is_there = os.path.lexists(path)
    if is_there or path.suffix == ".gguf" or name.count("/") > 1 or name[:1] in "./~":
        state = "is none of these" if is_there else "does not exist"
        state = "is a link to nothing" if is_there and not path.exists() else state
        raise ModelError(
            "a model must be a HuggingFace folder, a hub name or a .gguf file, and "
            f"{quoted(name)} {state}; check the path"
        )
    return name


def _path_of(name: str) -> Path:
    """Return a name as a path.

    Raises:
        ModelError: If it can be none.
    """
    too_long = len(name) > LONGEST_NAME or any(
        len(part) > 255 for part in os.fsencode(name).split(b"/")
    )
    if too_long:
        raise ModelError(
            f"a model's name must have at most {LONGEST_NAME} characters, 255 in each part of its "
            f"path, got {len(name)}; check the path"
        )
    if not name.strip() or "\0" in name:
        raise ModelError(
            f"a model must be a HuggingFace folder, a hub name or a .gguf file, got "
            f"{quoted(name)}; give a path"
        )
    path = existing_path(name)
    if str(path).startswith("~") and not os.path.lexists(path):
        raise ModelError(
            f"a path with `~` must begin with the home of a user, and {quoted(name)} names one "
            "who has none here; write the path out"
        )
    return path


def _check_folder(name: str, path: Path) -> None:
    """Refuse a folder that holds no model.

    Raises:
        ModelError: If it lacks a config, may not be read, holds pipes, or is an adapter.
    """
    try:
        contents = {entry.name for entry in path.iterdir()}
        for entry in sorted(filter(Path.exists, path.iterdir())):  # any may be what is loaded
            check_kind(entry)
            if entry.is_dir() and entry.suffix in _FILE_SUFFIXES:  # which libraries pass over
                raise unreadable(entry, IsADirectoryError())
        is_open = os.access(path, os.X_OK)
    except OSError as error:
        raise unreadable(path, error) from error
    if not is_open:
        raise unreadable(path, PermissionError())
    adapter_weights = any(each.startswith("adapter_model.") for each in contents)
    if "adapter_config.json" in contents and (adapter_weights or "config.json" not in contents):
        base = read_json(path / "adapter_config.json").get("base_model_name_or_path")
        raise ModelError(
            f"a model must be whole, and {quoted(name)} is an adapter of "
            f"{quoted(str(base), 60) if base else 'another model'}; merge the two, with peft's "
            "`merge_and_unload()`, and give the folder that `save_pretrained` writes then"
        )
    if "config.json" not in contents:
        raise ModelError(
            f"a model folder must hold `config.json`, and {quoted(name)} holds "
            f"{'other files' if contents else 'nothing'}; "
            "give the folder that `save_pretrained` wrote"
        )
