"""Checkpoints in GGUF files, unpacked once into a cache."""

import hashlib
import io
import os
import re
import shutil
from contextlib import redirect_stderr, suppress
from pathlib import Path

import torch
from safetensors import SafetensorError

from search_spaces.atomic_files import clear_scratch, publish, scratch_beside
from search_spaces.errors import ModelError, OutputError, quoted
from search_spaces.models.on_disk.gguf_metadata import keep_metadata_
from search_spaces.models.on_disk.gguf_rope import Metadata
from search_spaces.models.trust import load_gguf

_VERSION = 3
"""Of what is unpacked: folders that an earlier version made are not read, but deleted."""
_OWN_NAME = re.compile(r"(v(?P<version>\d{1,9})-[0-9a-f]{16}-)?[0-9a-f]{16}")
"""Of a folder that any version made: the file's place, then what identifies its content."""
_SCRATCH = "unpacked"


def unpack_gguf(path: Path) -> Path:
    """Unpack a GGUF file once into a HuggingFace folder in the user's cache.

    transformers reads GGUF but cannot save it, and takes a minute each time.

    Args:
        path: The file; its place, size and modification time identify it.

    Returns:
        The folder, with bfloat16 safetensors and all that the file says of its model.

    Raises:
        ModelError: If the file cannot be read as GGUF, or says what transformers leaves out.
        OutputError: If the cache cannot be written to.
    """
    stamp = path.stat()
    place = f"v{_VERSION}-{_digest(str(path.resolve()))}"
    content = _digest(f"{stamp.st_size}:{stamp.st_mtime_ns}:{stamp.st_ino}")
    folder = cache_folder() / "gguf" / f"{place}-{content}"
    if not folder.is_dir():
        _unpack(path, folder)
    _delete_others(folder, place)
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:16]


def _unpack(path: Path, folder: Path) -> None:
    """Write what a GGUF file holds into a folder of the cache."""
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar that cannot be turned off
            model, tokenizer = load_gguf(path, torch.bfloat16)
            metadata = Metadata.of(path)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{quoted(str(path))} must be a GGUF file of an architecture that transformers reads, "
            "and it cannot be loaded; give a whole file of such, or a HuggingFace folder"
        ) from error
    keep_metadata_(model, metadata)
    # it counts as quantised and so refuses to be saved, though its tensors are plain
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    model.is_quantized = False
    try:
        # one name for all files, so that the next clears what a killed process left
        with scratch_beside(folder.with_name(_SCRATCH)) as scratch:
            made = scratch / folder.name
            model.save_pretrained(made)
            tokenizer.save_pretrained(made)
            try:
                publish(made, folder)
            except OSError:
                if not folder.is_dir():  # nor made by another process meanwhile
                    raise
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{quoted(str(folder.parent))} must have room for the unpacked model, got: "
            f"{getattr(error, 'strerror', None) or 'it cannot be written'}; free some space, or "
            "set XDG_CACHE_HOME to another place"
        ) from error


def _delete_others(folder: Path, place: str) -> None:
    """Delete what no load will read: of older versions, of this file as it was, and half made.

    Newer versions have folders of their own here; what has none of our names is not ours.
    """
    with suppress(OSError):  # what stays only takes room
        clear_scratch(folder.with_name(_SCRATCH))
        for other in [*folder.parent.iterdir()]:
            match = _OWN_NAME.fullmatch(other.name)
            if match is None or other == folder or other.is_symlink():
                continue
            is_older = int(match["version"] or 0) < _VERSION
            if is_older or other.name.startswith(f"{place}-"):
                shutil.rmtree(other, ignore_errors=True)


def cache_folder() -> Path:
    """Return the cache folder of the planner: ``$XDG_CACHE_HOME/compression-planner``.

    Raises:
        OutputError: If there is neither such a variable nor a home.
    """
    root = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(root) if root else Path.home() / ".cache") / "compression-planner"
    except RuntimeError as error:
        raise OutputError(
            "a cache must have a place, and this user has no home; set XDG_CACHE_HOME to one"
        ) from error
