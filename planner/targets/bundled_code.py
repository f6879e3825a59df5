"""Modelling code that exports bring: ours, with a family's names in the place of Llama's."""

import atexit
import functools
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import dynamic_module_utils

from search_spaces.atomic_files import scratch_beside
from search_spaces.errors import ModelError
from search_spaces.models.on_disk.plain_files import read_bytes, read_json
from search_spaces.models.own_exports import stock_class

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LONGEST_CODE = 1_000_000
"""Bytes of a file of code that is read to be compared."""
_NAMES = re.compile(
    r"(?<=^from transformers import )\w+(?= as Stock(Config|ForCausalLM|Model)$)"
    r'|(?<=^    model_type = "pruned_)[\w.-]+(?="$)',
    re.MULTILINE,
)
"""What differs from family to family; all else is the same in every export."""


@dataclass(frozen=True, kw_only=True)
class BundledCode:
    """A file of code that exports of one kind bring."""

    module: str
    """Its name, without the ending."""
    prefix: str
    """Of the names of its classes."""
    template: Path
    """The code as it builds on Llama's."""

    @property
    def file(self) -> str:
        """Its name in an export."""
        return f"{self.module}.py"

    @property
    def classes(self) -> Mapping[str, str]:
        """Which of its classes each class of transformers loads."""
        names = {
            "AutoConfig": "Config",
            "AutoModel": "Model",
            "AutoModelForCausalLM": "ForCausalLM",
        }
        return {auto: f"{self.module}.{self.prefix}{name}" for auto, name in names.items()}

    def of_family(self, model: "PreTrainedModel") -> str:
        """Return the code that builds on the stock classes of a model's family."""
        base = getattr(model, model.base_model_prefix)
        config_class = stock_class(type(model.config))
        names = {
            "Config": config_class.__name__,
            "ForCausalLM": stock_class(type(model)).__name__,
            "Model": stock_class(type(base)).__name__,
            None: config_class.model_type,
        }
        return _NAMES.sub(lambda match: names[match[1]], self._text())

    def is_this(self, code: str) -> bool:
        """Return whether code is this, of some family, to the last sign."""
        return _NAMES.sub("", code) == _NAMES.sub("", self._text())

    def _text(self) -> str:
        return self.template.read_text(encoding="utf-8")


_HERE = Path(__file__).parent
PRUNED = BundledCode(
    module="modeling_pruned", prefix="Pruned", template=_HERE / "hf" / "modeling_pruned.py"
)
DECILM = BundledCode(
    module="modeling_decilm", prefix="DeciLM", template=_HERE / "deci" / "modeling_decilm.py"
)


@contextmanager
def copies_of_code_aside() -> Iterator[None]:
    """Let transformers copy our code to a folder of this process, and not to the user's home."""
    settings: Any = dynamic_module_utils
    place, modules = settings.HF_MODULES_CACHE, folder_of_code()
    settings.HF_MODULES_CACHE = modules
    try:
        yield
    finally:
        settings.HF_MODULES_CACHE = place
        if modules in sys.path:
            sys.path.remove(modules)


@functools.cache
def folder_of_code() -> str:
    """Make a folder that is there as long as the process is, for classes look into their files."""
    made = ExitStack()
    atexit.register(made.close)
    scratch = scratch_beside(Path(tempfile.gettempdir(), "planner-modules"))
    return str(made.enter_context(scratch))


def runs_own_code_alone(folder: Path) -> bool:
    """Return whether all code that loading a folder runs is this version's, to the last sign.

    What an export says of its code counts for nothing here, as anybody could write it.
    """
    try:
        named = read_json(folder / "config.json").get("auto_map")
        if (folder / "custom_generate").exists():  # which transformers runs where code is trusted
            return False
        tokenizer = folder / "tokenizer_config.json"
        if tokenizer.exists() and "auto_map" in read_json(tokenizer):
            return False
        return isinstance(named, dict) and any(
            set(named.values()) <= set(bundled.classes.values())
            and bundled.is_this(read_bytes(folder / bundled.file, _LONGEST_CODE).decode("utf-8"))
            for bundled in (PRUNED, DECILM)
        )
    except (ModelError, UnicodeDecodeError, TypeError):  # of damaged files, told where they load
        return False
