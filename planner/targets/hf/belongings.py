"""Files that belong to a model besides its weights: licences, notices, vocabularies."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError

from search_spaces.models.on_disk.plain_files import lies_inside

_PAPERS = re.compile(
    r"(.*[-_. ])?(licen[cs]es?|copying|copyrights?|notices?|patents|authors|attributions?"
    r"|(acceptable[-_ ])?use[-_ ]policy|third[-_ ]party.*)([-_. ].*)?",
    re.IGNORECASE,
)
_NO_PAPER = re.compile(
    r"bin|ckpt|gguf|gz|h5|ipynb|js|json|msgpack|npz|onnx|pickle|pkl|pt|pth|pyc?|safetensors|sh|so"
    r"|tar|ya?ml|zip",
    re.IGNORECASE,
)
"""Endings of code, weights and settings, whatever else a name says."""
_VOCABULARIES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "spiece.model",
    "tekken.json",
    "tokenizer.model*",
    "vocab.json",
    "vocab.txt",
    "*.bpe.model",
    "*.tiktoken",
)
"""What other readers than transformers want of a tokenizer."""
_MOST_BYTES = 2**27
_ON_THE_HUB = ("README.md", "*LICEN*", "*licen*", "*NOTICE*", "*POLICY*", "tokenizer.model*")
_NOT_FROM_THE_HUB = ("*.bin", "*.gguf", "*.pt", "*.pth", "*.safetensors")


def files_of(source: str) -> Path | None:
    """Return the folder with the files of a model's source, if it is at hand.

    Args:
        source: A folder, or a name on the hub, from which the papers are fetched if it answers.
    """
    if Path(source).is_dir():
        return Path(source)
    try:
        folder = snapshot_download(
            source, allow_patterns=list(_ON_THE_HUB), ignore_patterns=list(_NOT_FROM_THE_HUB)
        )
    except (OSError, ValueError, HfHubHTTPError):  # no name of the hub, or it does not answer
        return None
    return Path(folder)


def papers(folder: Path) -> Iterator[Path]:
    """Yield the licences and notices of a folder."""
    for path in sorted(folder.iterdir()):
        named = _PAPERS.fullmatch(path.name) and not _NO_PAPER.fullmatch(path.suffix[1:])
        if named and is_own(path, folder):
            yield path


def carry(source: Path, folder: Path) -> None:
    """Copy the licences, notices and vocabularies of a source that a folder does not have."""
    vocabularies = (path for pattern in _VOCABULARIES for path in sorted(source.glob(pattern)))
    for path in (*papers(source), *vocabularies):
        target = folder / path.name
        if not target.exists() and is_own(path, source):
            shutil.copyfile(path, target)


def is_own(path: Path, folder: Path) -> bool:
    """Return whether a path is a file of a folder, and no link to what lies elsewhere."""
    return lies_inside(folder, path) and path.is_file() and path.stat().st_size <= _MOST_BYTES
