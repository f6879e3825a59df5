"""What is wrong with the files of a tokenizer."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedTokenizerBase

from search_spaces.errors import ModelError, quoted
from search_spaces.models.on_disk.plain_files import (
    LARGEST_JSON_BYTES,
    find_file,
    read_bytes,
    read_json,
    read_text,
)

_WHOLE = "tokenizer.json"
_HALF = "vocab.json"
"""Which some tokenizers cannot be without the merges of its parts."""
_TEMPLATE = "chat_template.jinja"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES = (
    "tokenizer.model",
    "tiktoken.model",
    "tekken.json",
    _HALF,
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def missing_tokenizer(
    source: str, tokenizer_class: type[PreTrainedTokenizerBase] | None = None
) -> ModelError | None:
    """Return the sentence for a tokenizer without a vocabulary; `None`: it has one.

    Args:
        source: A HuggingFace folder or a hub name.
        tokenizer_class: The class that was loaded, of which some need no file.
    """
    named = getattr(tokenizer_class, "vocab_files_names", None)
    if tokenizer_class is not None and (
        not named or tokenizer_class.__module__.startswith("transformers_modules.")
    ):
        return None
    own = [str(file) for file in (named or {}).values() if file]
    names = dict.fromkeys((_WHOLE, *own, *_VOCABULARIES))
    # each may be asked of the hub: the first that is there ends the search
    if any(find_file(source, name) for name in names if name != _HALF):
        return None
    has_half = find_file(source, _HALF) is not None
    merges = (named or {}).get("merges_file")
    if has_half and not merges:
        return None
    lacking = f"`{merges}`" if has_half else f"`{_WHOLE}` (or `tokenizer.model`)"
    return ModelError(
        f"a model must come with its tokenizer, and {quoted(source)} lacks {lacking}; copy it, "
        "and `tokenizer_config.json`, from the model that it was made of"
    )


def is_refusal(error: BaseException) -> bool:
    """Return whether a tokenizer fails over its input or files; tokenizers may panic at them."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def damaged_tokenizer(source: str, load: Callable[[str], object] | None) -> ModelError:
    """Return the sentence for a tokenizer that cannot be loaded, by the file or field at fault.

    Args:
        source: A HuggingFace folder or a hub name.
        load: Loads one from a folder, or fails; none if that would run code of its own.
    """
    missing = missing_tokenizer(source)
    if missing is not None:
        return missing
    for name in (*_SETTINGS, _TEMPLATE, _WHOLE, *_VOCABULARIES):
        file = find_file(source, name)
        if file is not None:
            try:
                _read(file)
            except ModelError as reason:
                return reason
    package = None if find_file(source, _WHOLE) else _missing_package(source)
    if package is not None:
        return package
    field = None if load is None else _wrong_field(source, load)
    if field is not None:
        return field
    name = _WHOLE if find_file(source, _WHOLE) else "its files"
    return ModelError(
        f"a tokenizer must be one that transformers reads, and that of {quoted(source)} is none; "
        f"get `{name}` and `tokenizer_config.json` again"
    )


def _wrong_field(source: str, load: Callable[[str], object]) -> ModelError | None:
    """Return the sentence for the field without which a tokenizer of a folder is loaded."""
    folder, name = Path(source), _SETTINGS[0]
    if not (folder / name).is_file():
        return None
    values = read_json(folder / name)
    with TemporaryDirectory() as place:
        for path in folder.iterdir():
            if path.name != name and path.is_file():
                (Path(place) / path.name).symlink_to(path.resolve())
        for field, value in values.items():
            others = {each: values[each] for each in values if each != field}
            (Path(place) / name).write_text(json.dumps(others), encoding="utf-8")
            if _loads(load, place):
                return ModelError(
                    f"{quoted(field, 40)} in the {name} of {quoted(source)} must be one that "
                    f"transformers reads, got {quoted(repr(value), 60)}; correct it, or get "
                    "the file again"
                )
    return None


def _loads(load: Callable[[str], object], place: str) -> bool:
    try:
        load(place)
    except BaseException as error:
        if not is_refusal(error):
            raise
        return False
    return True


def _read(file: Path) -> None:
    match file.suffix:
        case ".json":
            read_json(file)
        case ".jinja" | ".txt":
            read_text(file)
        case _:
            read_bytes(file, LARGEST_JSON_BYTES)


def _missing_package(source: str) -> ModelError | None:
    """Return the sentence for a vocabulary whose library is not installed."""
    for name in _VOCABULARIES:
        file = find_file(source, name)
        package = None if file is None else _package(file)
        if package is not None:
            module, distribution = package
            if find_spec(module) is None:
                return ModelError(
                    f"a tokenizer must be readable, and {quoted(name)} of {quoted(source)} needs "
                    f"the package {distribution}; install it, `pip install {distribution}`, or "
                    "add the `tokenizer.json` of the same model"
                )
    return None


def _package(file: Path) -> tuple[str, str] | None:
    """Return the module and the distribution that read a vocabulary; `None`: ours do."""
    if file.name == "tekken.json":
        return "mistral_common", "mistral-common"
    if file.suffix != ".model":
        return None
    # sentencepiece writes a protocol buffer, tiktoken lines of base64
    is_text = read_bytes(file, 15).isascii() and not read_bytes(file, 0).startswith(b"\n")
    return ("tiktoken", "tiktoken") if is_text else ("sentencepiece", "sentencepiece")
