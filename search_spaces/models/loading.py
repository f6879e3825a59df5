"""Loading a model and its tokenizer from a folder, a hub name or a GGUF file, with checks."""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from search_spaces.models import Offload
from search_spaces.models.buffers import renew_buffers_
from search_spaces.models.checks import check_architecture, check_complete, finite, say_unused
from search_spaces.models.fingerprint import describe_source, identify, lasting
from search_spaces.models.identity import SourceIdentity, Verify
from search_spaces.models.memory import weights_fit
from search_spaces.models.on_disk.config_checks import check_depth
from search_spaces.models.on_disk.gguf_source import GgufSource
from search_spaces.models.on_disk.location import locate_source
from search_spaces.models.on_disk.source_files import weight_files
from search_spaces.models.on_disk.vocabulary import check_vocabulary
from search_spaces.models.own_exports import stock_class
from search_spaces.models.stored import StoredFormat, check_count, check_formats, restore_, untie_
from search_spaces.models.streaming import LayerStream, open_streamed
from search_spaces.models.trust import load_config, load_tokenizer, load_weights, make_empty
from search_spaces.paths import existing_path


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A dense model, ready to be read."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """The HuggingFace folder or hub name; for a GGUF file, the unpacked folder."""
    stored: StoredFormat
    """Number formats of its weights on disk, which an export keeps."""
    identity: SourceIdentity
    """Identity of the model as stored, whatever dtype its weights are cast to."""
    stream: LayerStream | None = None
    """Reads its layers from disk; None: they are in memory."""
    gguf: GgufSource | None = None
    """The GGUF file that it was read from; None: it was read from none."""

    @property
    def stored_dtype(self) -> torch.dtype:
        """Dtype of most of its weights on disk."""
        return self.stored.dtype


def load_model(
    name: str,
    *,
    dtype: torch.dtype | None = None,
    device: str = "cpu",
    trust_remote_code: bool = False,
    offload: Offload = "never",
    verify: Verify = "sample",
) -> LoadedModel:
    """Load a causal language model in evaluation mode, without gradients.

    Args:
        name: A HuggingFace folder, a hub name or a ``.gguf`` file.
        dtype: To compute in; None: as stored.
        device: Where the weights are placed.
        trust_remote_code: Run Python code from the model folder. Pickled weights are never read.
        offload: Whether to leave its layers on disk and read each when it is used; ``auto``: if
            the weights do not fit into memory.
        verify: How thoroughly its weights are identified.

    Raises:
        ModelError: If the model is missing, damaged, incomplete or no causal language model, if
            it holds NaN, or if it should be streamed and cannot be.
    """
    source = locate_source(name)
    config = load_config(source, trust_remote_code=trust_remote_code)
    check_architecture(name, config, trusted=trust_remote_code)
    tokenizer = load_tokenizer(source, trust_remote_code=trust_remote_code, config=config)
    files = weight_files(source)
    check_depth(source, config, len(files.tensors))
    options = _implementations(config)
    empty = make_empty(source, config, options, trust_remote_code=trust_remote_code)
    check_formats(name, empty, files)
    check_count(name, empty, files)
    model: Any
    if _streams(empty, offload, dtype, device):
        model, stream, info = open_streamed(source, files, empty, device, options)
    else:
        stream = None
        model, info = load_weights(source, config, empty, files, {"dtype": "auto", **options})
    check_complete(name, info, empty)
    check_vocabulary(name, tokenizer, model)
    say_unused(info)
    untie_(model)
    loaded_dtypes = {name: weight.dtype for name, weight in lasting(model).items()}
    stored = restore_(model, files)
    weights = stream.weights() if stream else sorted(lasting(model).items())
    identity = identify(model, finite(name, weights), dtypes=loaded_dtypes, verify=verify)
    _cast_(model.eval().requires_grad_(requires_grad=False), dtype or stored.dtype)
    renew_buffers_(model, dtype or stored.dtype)
    return LoadedModel(
        model=model if stream else model.to(device=device),
        tokenizer=tokenizer,
        source=source,
        stored=stored,
        identity=describe_source(identity, config, model, tokenizer),
        stream=stream,
        gguf=_gguf_source(name, model),
    )


def _gguf_source(name: str, model: PreTrainedModel) -> GgufSource | None:
    """Return the file that a model was read from, if the user's name is that of one."""
    path = existing_path(name)
    if path.suffix != ".gguf" or not path.is_file():
        return None
    return GgufSource(path, {each: tuple(w.shape) for each, w in lasting(model).items()})


def _streams(
    empty: PreTrainedModel, offload: Offload, dtype: torch.dtype | None, device: str
) -> bool:
    """Return whether a model's layers are to stay on disk."""
    return offload == "always" or (
        offload == "auto" and not weights_fit(empty, dtype or empty.dtype, device)
    )


def _implementations(config: PreTrainedConfig) -> dict[str, str]:
    """Return the fastest attention of a class, and the forward of experts that skips idle ones."""
    model_class = getattr(
        transformers,
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(stock_class(type(config)).model_type, ""),
        None,
    )
    attention = "sdpa" if getattr(model_class, "_supports_sdpa", True) else "eager"
    return {"attn_implementation": attention, "experts_implementation": "eager"}


def _cast_(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast the weights; rotary tables and other buffers keep their precision."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
