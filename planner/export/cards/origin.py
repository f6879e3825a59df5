"""What a model's own card says of its licence, languages and base, as far as it still holds."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict

from planner.export.cards.gguf_head import gguf_head
from planner.settings.yaml_values import Value, parse_yaml
from planner.targets.hf.belongings import is_own, papers
from search_spaces.errors import SettingsError

_MOST_SIGNS, _MOST_VALUES = 2**16, 32
"""Of the head of a card that is read, and of what one of its fields may hold."""
_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,200}")
_HEAD = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_IN_HUB_CACHE = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/")
_OTHER_FORMATS = re.compile(
    r"awq|bitsandbytes|exl2|gguf|gptq|llama[-.]cpp|mlx|onnx|openvino|quantized", re.IGNORECASE
)
"""Tags of files that an export does not hold."""


class Origin(BaseModel):
    """What is known of where a model comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    licence: tuple[str, ...] = ()
    licence_name: str = ""
    licence_link: str = ""
    papers: tuple[str, ...] = ()
    """Files with its licence and notices."""
    base_model: tuple[str, ...] = ()
    """On the hub; never a path of this machine."""
    languages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, named: str, folder: Path | None) -> Self:
        """Read what a model says of itself; what is missing or malformed is left out.

        Args:
            named: The model, as the user named it.
            folder: Its files, if they are at hand.
        """
        named = os.path.expanduser(named)  # noqa: PTH111  (of nobody's home too)
        if named.endswith(".gguf"):
            card = {name: tuple(_texts([*v])) for name, v in gguf_head(Path(named)).items()}
        else:
            card = {} if folder is None else _head(folder)
        return cls(
            licence=card.get("license", ()),
            licence_name=next(iter(card.get("license_name", ())), ""),
            licence_link=next(iter(card.get("license_link", ())), ""),
            papers=() if folder is None else tuple(path.name for path in papers(folder)),
            base_model=_base_model(named, folder, card.get("base_model", ())),
            languages=card.get("language", ()),
            tags=tuple(tag for tag in card.get("tags", ()) if not _OTHER_FORMATS.fullmatch(tag)),
        )


def _base_model(named: str, folder: Path | None, by_card: Iterable[str]) -> tuple[str, ...]:
    """Return the hub's name of a model; of a folder, what it says that it was made from."""
    cached = _IN_HUB_CACHE.search(f"{Path(named).absolute().as_posix()}/")
    if cached:
        return (f"{cached[1]}/{cached[2]}",)
    if not Path(named).exists():
        return (named,) if is_hub_name(named) else ()
    if folder is None:
        return ()
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        by_config = str(config.get("_name_or_path", ""))
    except (OSError, ValueError, RecursionError, AttributeError):
        by_config = ""
    return tuple(dict.fromkeys(filter(is_hub_name, (*by_card, by_config))))


def is_hub_name(name: str) -> bool:
    """Return whether a name can be one of the hub, and is no path here."""
    return bool(_HUB_NAME.fullmatch(name)) and not Path(name).exists()


def _head(folder: Path) -> dict[str, tuple[str, ...]]:
    """Read the fields at the head of a card that hold text or a list of texts."""
    path = folder / "README.md"
    if not is_own(path, folder):
        return {}
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        head = _HEAD.match(file.read(_MOST_SIGNS))
    try:
        card = parse_yaml("" if head is None else head[1], "the head of a card")
    except SettingsError:  # no card that anyone could read
        return {}
    return {name: tuple(_texts(value)) for name, value in card.items()}


def _texts(value: Value) -> Iterator[str]:
    for each in (value if isinstance(value, list) else [value])[:_MOST_VALUES]:
        if isinstance(each, str) and _VALUE.fullmatch(each):
            yield each
