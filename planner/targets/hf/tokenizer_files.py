"""Writing a tokenizer so that it loads as the original does, with trust only if it brings code."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from search_spaces.errors import VerificationError
from search_spaces.models.trust import load_tokenizer

_CONFIG_FILE = "tokenizer_config.json"


def write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Write a tokenizer with all its chat templates.

    Code of its own is written only if it was trusted to run, for it is then what tokenizes.

    Args:
        folder: Where.
        tokenizer: As it was loaded.

    Returns:
        Whether loading it takes ``trust_remote_code=True``.
    """
    save: Any = tokenizer.save_pretrained
    # several templates go into the config, as their names need not be those of files
    save(folder, save_jinja_files=not isinstance(tokenizer.chat_template, dict))
    path = folder / _CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    brings_code = _brings_code(tokenizer)
    if brings_code:  # transformers names classes wrongly whose names lack the word tokenizer
        is_fast = getattr(tokenizer, "is_fast", False)
        own = f"{type(tokenizer).__module__.rpartition('.')[2]}.{type(tokenizer).__name__}"
        config["auto_map"] = {"AutoTokenizer": [None, own] if is_fast else [own, None]}
    else:
        config.pop("auto_map", None)
        if config.get("tokenizer_class") == "TokenizersBackend":
            config["tokenizer_class"] = "PreTrainedTokenizerFast"  # its name before version 5
    if isinstance(config.get("extra_special_tokens"), list):  # so called since version 5
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")
    return brings_code


def check_tokenizer(
    folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Load a written tokenizer, and compare it with the original.

    Args:
        folder: Where it was written.
        config: Of the model there.
        tokenizer: The original.

    Raises:
        VerificationError: If it gives other tokens, or has other chat templates.
    """
    trust = _brings_code(tokenizer)
    again = load_tokenizer(str(folder), trust_remote_code=trust, config=config)
    text = _text(tokenizer)
    same_tokens = list(again(text).input_ids) == list(tokenizer(text).input_ids)
    if not same_tokens or again.chat_template != tokenizer.chat_template:
        raise VerificationError(
            "an exported tokenizer must give the tokens of the original, and "
            f"{type(again).__name__} in place of {type(tokenizer).__name__} does not; "
            "please report this model"
        )


def _brings_code(tokenizer: PreTrainedTokenizerBase) -> bool:
    return type(tokenizer).__module__.startswith("transformers_modules.")


def _text(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return text with the special tokens, and words from the whole vocabulary."""
    count = len(tokenizer)
    ids = sorted({*tokenizer.all_special_ids, *range(0, count, max(1, count // 100))})
    text: Any = tokenizer.decode([each for each in ids if each < count])
    return str(text)
