"""Letting transformers load exports with our code as it loads its own families."""

import functools
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from planner.targets.bundled_code import (
    DECILM,
    PRUNED,
    BundledCode,
    copies_of_code_aside,
    folder_of_code,
)
from search_spaces.errors import ModelError, quoted
from search_spaces.models.on_disk.plain_files import read_json

_AUTO_CLASSES: dict[str, Any] = {
    "AutoModel": AutoModel,
    "AutoModelForCausalLM": AutoModelForCausalLM,
}


def register(folder: str | Path) -> None:
    """Let transformers load an export with our code without ``trust_remote_code``.

    Of an export that a stock class loads there is nothing to do. Code runs only if it is, to the
    last sign, what this version of the planner writes. The family is then known as long as this
    process lives: other exports of it load too, and it is this code that runs.

    Args:
        folder: The export.

    Raises:
        ModelError: If it is none, or its code is not as this version writes it.
    """
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise ModelError(
            f"an export must be a folder with a config.json, and {quoted(str(folder))} is none; "
            "give the folder that `planner export` has written"
        )
    named = read_json(path / "config.json").get("auto_map")
    if not named:
        return
    for bundled in (PRUNED, DECILM):
        if (path / bundled.file).is_file():
            code = (path / bundled.file).read_text(encoding="utf-8")
            if bundled.is_this(code):
                _register(bundled, code)
                return
    raise ModelError(
        "code of an export is run if this version of the planner writes it so, and that of "
        f"{quoted(str(folder))} is not: it was changed, or is of another version; export its "
        "plan again, or read the code and load it with `trust_remote_code=True`"
    )


@functools.cache
def _register(bundled: BundledCode, code: str) -> None:
    """Run code, and let transformers know its classes.

    It is run from a copy, so that what was looked at is what runs, and by transformers itself, so
    that `save_pretrained` writes it again.
    """
    copy = Path(folder_of_code()) / "registered"
    copy.mkdir(exist_ok=True)
    (copy / bundled.file).write_text(code, encoding="utf-8")
    with copies_of_code_aside():
        found: dict[str, Any] = {
            auto: get_class_from_dynamic_module(name, str(copy))
            for auto, name in bundled.classes.items()
        }
    config = found["AutoConfig"]
    AutoConfig.register(config.model_type, config, exist_ok=True)
    config.register_for_auto_class()
    for name, auto in _AUTO_CLASSES.items():
        auto.register(config, found[name], exist_ok=True)
        found[name].register_for_auto_class(name)
