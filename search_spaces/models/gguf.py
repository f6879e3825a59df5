"""Checkpoints in GGUF files, unpacked once into a cache."""

import contextlib
import hashlib
import io
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError

from search_spaces.errors import ModelError, OutputError, quoted
from search_spaces.models.trust import load_gguf


def unpack_gguf(path: Path) -> Path:
    """Unpack a GGUF file once into a HuggingFace folder in the user's cache.

    transformers reads GGUF but cannot save it, and takes a minute each time.

    Args:
        path: The file; its name, size and modification time identify it.

    Returns:
        The folder, with bfloat16 safetensors.

    Raises:
        ModelError: If the file cannot be read as GGUF.
        OutputError: If the cache cannot be written to.
    """
    stamp = path.stat()
    identity = f"{path.resolve()}:{stamp.st_size}:{stamp.st_mtime_ns}"
    folder = cache_folder() / "gguf" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that cannot be turned off
            model, tokenizer = load_gguf(path, torch.bfloat16)
    except Exception as error:
        raise ModelError(
            f"{quoted(str(path))} must be a GGUF file of an architecture that transformers reads, "
            f"and it cannot be loaded ({type(error).__name__}); give a whole file of such, or a "
            "HuggingFace folder"
        ) from error
    # it counts as quantised and so refuses to be saved, though its tensors are plain
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    model.is_quantized = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            if not folder.is_dir():
                Path(scratch).replace(folder)
                Path(scratch).mkdir()
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"{quoted(str(folder.parent))} must have room for the unpacked model, got: "
            f"{getattr(error, 'strerror', None) or 'it cannot be written'}; free some space, or "
            "set XDG_CACHE_HOME to another place"
        ) from error
    return folder


def cache_folder() -> Path:
    """Return the cache folder of the planner: ``$XDG_CACHE_HOME/compression-planner``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "compression-planner"
