"""What the files of a model may do: the one place that hands them to transformers.

Code of a folder, a tokenizer or a config runs only if the caller says `trust_remote_code`, which
comes from a command line and never from a file. Pickles are never opened.
"""

from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)


def load_config(source: str, *, trust_remote_code: bool) -> PreTrainedConfig:
    """Load a config from a folder or a hub name."""
    config: PreTrainedConfig = AutoConfig.from_pretrained(
        source, trust_remote_code=trust_remote_code
    )
    return config


def load_tokenizer(source: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a folder or a hub name."""
    load: Any = AutoTokenizer.from_pretrained
    tokenizer: PreTrainedTokenizerBase = load(source, trust_remote_code=trust_remote_code)
    return tokenizer


def load_as_client(
    folder: str, *, trust_remote_code: bool, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a folder that we wrote ourselves as those who get it would.

    Args:
        folder: The export.
        trust_remote_code: Whether it brings code of ours; a stock export loads without.
        options: Of transformers, such as ``dtype``.

    Returns:
        The model, and what transformers says of its keys.
    """
    load: Any = AutoModelForCausalLM.from_pretrained
    model, info = load(
        folder,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )
    return model, info


def load_gguf(
    folder: str, file: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the model and the tokenizer of a GGUF file; nothing beside it is run."""
    tokenize: Any = AutoTokenizer.from_pretrained
    load: Any = AutoModelForCausalLM.from_pretrained
    tokenizer = tokenize(folder, gguf_file=file, trust_remote_code=False)
    return load(folder, gguf_file=file, trust_remote_code=False, dtype=dtype), tokenizer
