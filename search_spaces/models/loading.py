"""Loading a model and its tokenizer from a folder, a hub name or a GGUF file, with checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from search_spaces.errors import ModelError
from search_spaces.models import Offload
from search_spaces.models.buffers import renew_buffers_
from search_spaces.models.checks import check_architecture, check_complete, finite, refusal
from search_spaces.models.fingerprint import identify, lasting
from search_spaces.models.gguf import unpack_gguf
from search_spaces.models.identity import ModelIdentity
from search_spaces.models.layer_stack import find_stack
from search_spaces.models.memory import weights_fit
from search_spaces.models.streaming import LayerStream, open_streamed

LONGEST_NAME = 1024
"""Characters of a path; no file system takes longer ones."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A dense model, ready to be read."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """The HuggingFace folder or hub name; for a GGUF file, the unpacked folder."""
    stored_dtype: torch.dtype
    """Dtype of its weights on disk, which an export keeps."""
    identity: ModelIdentity
    """Identity of the weights as stored, whatever dtype they are cast to."""
    stream: LayerStream | None = None
    """Reads its layers from disk; None: they are in memory."""


def load_model(
    name: str,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
    offload: Offload = "never",
) -> LoadedModel:
    """Load a causal language model in evaluation mode, without gradients.

    Args:
        name: A HuggingFace folder, a hub name or a ``.gguf`` file.
        dtype: To compute in; None: as stored.
        device: Where the weights are placed.
        trust_remote_code: Run Python code from the model folder. Pickled weights are never read.
        offload: Whether to leave its layers on disk and read each when it is used; ``auto``: if
            the weights do not fit into memory.

    Raises:
        ModelError: If the model is missing, damaged, incomplete or no causal language model, if
            it holds NaN, or if it should be streamed and cannot be.
    """
    source = _located(name)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        check_architecture(
            name, config.architectures, config.model_type, trusted=trust_remote_code
        )
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        options |= _implementations(config)
        model, stream, info = _opened(source, config, options, offload, dtype, device)
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises no class of its own over a bad file
        raise refusal(name, error) from error
    check_complete(name, info)
    weights = stream.weights() if stream else sorted(lasting(model).items())
    identity = identify(model, finite(name, weights))
    stored = next(model.parameters()).dtype
    _cast_(model.eval().requires_grad_(requires_grad=False), dtype or stored)
    renew_buffers_(model, dtype or stored)
    return LoadedModel(
        model=model if stream else model.to(device=device),
        tokenizer=tokenizer,
        source=source,
        stored_dtype=stored,
        identity=identity,
        stream=stream,
    )


def _opened(
    source: str,
    config: PreTrainedConfig,
    options: Mapping[str, Any],
    offload: Offload,
    dtype: torch.dtype | None,
    device: str,
) -> tuple[Any, LayerStream | None, Mapping[str, object]]:
    """Return the model as stored, the stream of its layers, and transformers' loading info."""
    empty = None if offload == "never" else _without_weights(config, options)
    if empty is not None and (
        offload == "always" or not weights_fit(empty, dtype or empty.dtype, device)
    ):
        if getattr(config, "quantization_config", None):
            raise ModelError(
                f"the weights of a streamed model must lie on disk as numbers, and `{source}` "
                "holds quantised ones; load it whole, with `--offload never`"
            )
        return open_streamed(source, empty, find_stack(empty)[0], device, options)
    load: Any = AutoModelForCausalLM.from_pretrained
    model, info = load(
        source, dtype="auto", use_safetensors=True, output_loading_info=True, **options
    )
    return model, None, info


def _without_weights(config: PreTrainedConfig, options: Mapping[str, Any]) -> PreTrainedModel:
    make: Any = AutoModelForCausalLM.from_config
    with torch.device("meta"):
        empty: PreTrainedModel = make(config, **options)
    return empty


def _implementations(config: PreTrainedConfig) -> dict[str, str]:
    """Return the fastest attention of a class, and the forward of experts that skips idle ones."""
    model_class = getattr(
        transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, ""), None
    )
    attention = "sdpa" if getattr(model_class, "_supports_sdpa", True) else "eager"
    return {"attn_implementation": attention, "experts_implementation": "eager"}


def _cast_(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast the weights; rotary tables and other buffers keep their precision."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)


def _located(name: str) -> str:
    """Return what transformers loads for the user's name of a model.

    Raises:
        ModelError: If there is no such model.
    """
    path = Path(name).expanduser()
    if len(name) > LONGEST_NAME:
        raise ModelError(
            f"a model's name must have at most {LONGEST_NAME} characters, got {len(name)}; "
            "check the path"
        )
    if path.suffix == ".gguf" and path.is_file():
        return str(unpack_gguf(path))
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"a model folder must hold `config.json`, and `{name}` holds "
                f"{'other files' if any(path.iterdir()) else 'nothing'}; "
                "give the folder that `save_pretrained` wrote"
            )
        return str(path)
    if path.exists() or path.suffix == ".gguf" or name.count("/") > 1 or name[:1] in "./~":
        raise ModelError(
            f"a model must be a HuggingFace folder, a hub name or a .gguf file, and `{name}` "
            f"{'is none of these' if path.exists() else 'does not exist'}; check the path"
        )
    return name
