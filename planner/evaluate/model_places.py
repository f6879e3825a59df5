"""The models of an evaluation: where they lie, and what may run of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from pydantic import BaseModel, ConfigDict, ValidationError

from planner.runs.folder import DATABASE_FILE, SETTINGS_FILE
from planner.settings.places import is_same_place
from planner.targets.bundled_code import runs_own_code_alone
from search_spaces.errors import ModelError, quoted
from search_spaces.models.identity import ModelIdentity
from search_spaces.models.on_disk.location import locate_source
from search_spaces.models.on_disk.plain_files import read_json
from search_spaces.models.trust import load_config, load_tokenizer
from search_spaces.paths import existing_path

MANIFEST = "manifest.json"
_OTHER_FORMATS = (("*.gguf", "GGUF", "llama.cpp"), ("*.onnx", "ONNX", "ONNX Runtime"))


class _Identity(ModelIdentity):
    """As any version writes it."""

    model_config = ConfigDict(extra="ignore")


class Descent(BaseModel):
    """What an export of any version says of the model that it was made from."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    source: str = ""
    """The dense model as its user named it."""
    text: str = ""
    """What it was searched and fitted on."""
    model: _Identity | None = None


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """A model that can be loaded."""

    name: str
    """As the user knows it."""
    trusted: bool
    """Whether code that it brings may run."""
    identity: ModelIdentity | None = None
    """That it must have; None: any."""


def model_place(name: str, *, trusted: bool) -> ModelPlace:
    """Find the model to evaluate.

    Raises:
        ModelError: If it is none, or one of another runtime.
    """
    path = existing_path(name)
    if path.is_dir():
        _check_kind(name, path)
    locate_source(name)
    return ModelPlace(name=name, trusted=trusted or runs_own_code_alone(path))


def dense_place(
    given: str | None, descent: Descent, folder: Path, *, trusted: bool
) -> ModelPlace | None:
    """Find the dense model to compare with; None: it is not at hand.

    Args:
        given: The model that the user named, if any.
        descent: What the evaluated model says of it.
        folder: Of the evaluated model.
        trusted: Whether code that it brings may run.

    Raises:
        ModelError: If a model is named that cannot be one.
    """
    if given is not None:
        return model_place(given, trusted=trusted)
    source = descent.source
    if not source or is_same_place(source, str(folder)) or not _is_here(source):
        return None
    found = model_place(source, trusted=trusted)
    return ModelPlace(name=found.name, trusted=found.trusted, identity=descent.model)


def descent_of(folder: Path) -> Descent:
    """Return what an export says of the model that it was made from; of others, nothing."""
    try:
        told: dict[str, Any] = read_json(folder / MANIFEST)
    except ModelError:
        return Descent()
    settings = told.get("settings")
    if isinstance(settings, dict):  # of a conversion to a mixture of experts
        told["source"] = settings.get("model", "")
    try:
        return Descent.model_validate(told)
    except ValidationError:
        return Descent()


def check_same_tokens(dense: ModelPlace, pruned: ModelPlace) -> None:
    """Refuse to compare models of different vocabularies.

    Raises:
        ModelError: If they differ, or a tokenizer cannot be loaded.
    """
    vocabularies = []
    for place in (dense, pruned):
        source = locate_source(place.name)
        config = load_config(source, trust_remote_code=place.trusted)
        tokenizer = load_tokenizer(source, trust_remote_code=place.trusted, config=config)
        vocabularies.append(tokenizer.get_vocab())
    if vocabularies[0] != vocabularies[1]:
        raise ModelError(
            f"models must share their tokens to be compared, and {quoted(dense.name)} has others "
            f"than {quoted(pruned.name)}; give the model that it was pruned from with `--dense`"
        )


def _check_kind(name: str, path: Path) -> None:
    """Refuse a folder of another kind than those of HuggingFace.

    Raises:
        ModelError: If it is one.
    """
    if (path / SETTINGS_FILE).is_file() and (path / DATABASE_FILE).is_file():
        raise ModelError(
            f"a model must be a HuggingFace folder to be evaluated, and {quoted(name)} is a run; "
            "export a plan of it first, with `planner export`"
        )
    if any(path.glob("*.safetensors")):
        return
    for pattern, written_as, runtime in _OTHER_FORMATS:
        if any(path.glob(pattern)):
            raise ModelError(
                f"a model must be a HuggingFace folder to be evaluated, and {quoted(name)} is "
                f"{written_as} for {runtime}; evaluate the same plan exported with `--format hf`"
            )


def _is_here(source: str) -> bool:
    """Return whether a model can be loaded without a network."""
    try:
        if existing_path(source).exists():
            return True
        return isinstance(try_to_load_from_cache(source, "config.json"), str)
    except (OSError, ValueError, HFValidationError):
        return False
