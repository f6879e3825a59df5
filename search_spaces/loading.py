"""Loading a model and its tokenizer from a folder, a hub name or a GGUF file, with mistrust."""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from search_spaces.errors import ModelError, OutputError, StructureError
from search_spaces.identity import identify, lasting
from search_spaces.memory import weights_fit
from search_spaces.plan import ModelIdentity
from search_spaces.streaming import LayerStream, open_streamed
from search_spaces.structure.backbone import find_stack

Offload = Literal["auto", "never", "always"]
"""Whether a model's layers stay on disk; ``auto``: where its weights do not fit into memory."""
LONGEST_NAME = 1024
"""Signs of a path; longer ones no file system takes."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A dense model, ready to be read."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    source: str
    """The HuggingFace folder or hub name it came from; for a GGUF file, the unpacked folder."""
    stored_dtype: torch.dtype
    """The dtype of its weights on disk, which an export keeps."""
    identity: ModelIdentity
    """Of the weights as stored, whatever they are computed in."""
    stream: LayerStream | None = None
    """What reads its layers from disk, where they are not in memory."""


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
        dtype: To compute in; none: as stored.
        device: Where the weights go.
        trust_remote_code: Run Python code from the model folder. Pickled weights are never read.
        offload: Whether to leave its layers on disk and read each when it is used; ``auto``: where
            the weights do not fit into memory.

    Raises:
        ModelError: Where the model is missing, damaged, incomplete, not a causal language model,
            holds NaN, or cannot be streamed and should be.
    """
    source = _located(name)
    options: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        _check_architecture(
            name, config.architectures, config.model_type, trusted=trust_remote_code
        )
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        options |= _implementations(config)
        model, stream, info = _opened(source, config, options, offload, dtype, device)
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises no class of its own over a bad file
        raise _refusal(name, error) from error
    _check_complete(name, info)
    weights = stream.weights() if stream else sorted(lasting(model).items())
    identity = identify(model, _finite(name, weights))
    stored = next(model.parameters()).dtype
    _cast_(model.eval().requires_grad_(requires_grad=False), dtype or stored)
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
    """Give the model as stored, what streams its layers, and what transformers says of it."""
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
    """Name the fastest attention a class has, and the forward of experts that skips idle ones."""
    made = getattr(
        transformers, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.model_type, ""), None
    )
    attention = "sdpa" if getattr(made, "_supports_sdpa", True) else "eager"
    return {"attn_implementation": attention, "experts_implementation": "eager"}


def _cast_(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Cast the weights; rotary tables and other buffers keep the precision they were made in."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)


def _refusal(name: str, error: BaseException) -> ModelError:
    """Turn what transformers said of a model into what the user can do about it."""
    if "trust_remote_code" in str(error):
        return ModelError(
            f"a model that brings Python code of its own must be trusted, and `{name}` is not; "
            "read its code, then allow it with `--trust_remote_code`"
        )
    if "scaled_dot_product_attention" in str(error):
        return StructureError(
            "a model must be able to run its attention through torch's "
            f"scaled_dot_product_attention, and `{name}` cannot: {_first_line(error)}; "
            "this architecture cannot be read"
        )
    return ModelError(
        f"`{name}` must be a complete HuggingFace folder with safetensors weights, and it "
        f"cannot be loaded: {_first_line(error)}; check the folder or download it again"
    )


def _located(name: str) -> str:
    """Turn what the user named into something transformers loads."""
    path = Path(name).expanduser()
    if len(name) > LONGEST_NAME:
        raise ModelError(
            f"a model's name must have at most {LONGEST_NAME} signs, got {len(name)}; "
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


def _check_architecture(
    name: str, architectures: list[str] | None, model_type: str, *, trusted: bool
) -> None:
    if model_type.startswith("pruned_"):
        raise ModelError(
            f"a model must be dense, and `{name}` is an export of the planner already; "
            "search the model that it was cut from"
        )
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    named = set(architectures or [])
    fits = not named or known in named or any("CausalLM" in a or "LMHead" in a for a in named)
    if not fits or (known is None and not trusted):
        raise ModelError(
            f"a model must be a causal language model, and `{name}` is "
            f"{', '.join(sorted(named)) or f'of type {model_type}'}; "
            "give a model that AutoModelForCausalLM loads"
        )


def _check_complete(name: str, info: Mapping[str, object]) -> None:
    missing = info.get("missing_keys") or info.get("mismatched_keys")
    if missing:
        assert isinstance(missing, set | list)
        raise ModelError(
            f"a checkpoint must hold every weight of its model, and `{name}` lacks or misshapes "
            f"{len(missing)}, such as `{sorted(map(str, missing))[0]}`; download it again"
        )


def _finite(name: str, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Pass weights on, and refuse those that are no numbers."""
    for path, weight in weights:
        # in pieces, for this makes copies, and stacks of experts are large
        pieces = torch.split(weight.reshape(-1), 2**22)
        if not all(bool(torch.isfinite(piece).all()) for piece in pieces):
            raise ModelError(
                f"weights must be finite, and `{path}` of `{name}` holds NaN or infinity; "
                "the checkpoint is damaged, get a sound copy"
            )
        yield path, weight


def unpack_gguf(path: Path) -> Path:
    """Turn a GGUF file into a HuggingFace folder in the user's cache, once.

    transformers reads GGUF but cannot save what it read, and takes a minute over it each time.

    Args:
        path: The file; its name, size and modification time identify it.

    Returns:
        The folder, with bfloat16 safetensors.

    Raises:
        ModelError: Where the file cannot be read as GGUF.
        OutputError: Where the cache cannot be written to.
    """
    stamp = path.stat()
    identity = f"{path.resolve()}:{stamp.st_size}:{stamp.st_mtime_ns}"
    folder = cache_folder() / "gguf" / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    place, file = str(path.parent), path.name
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a bar that cannot be turned off
            tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=file)
            model: Any = AutoModelForCausalLM.from_pretrained(
                place, gguf_file=file, dtype=torch.bfloat16
            )
    except Exception as error:
        raise ModelError(
            f"`{path}` must be a GGUF file of an architecture that transformers reads, and it "
            f"cannot be loaded: {_first_line(error)}; give another file or a HuggingFace folder"
        ) from error
    # as loaded it believes itself quantised and refuses to be saved; its tensors are plain
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    model.is_quantized = False
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            if not folder.is_dir():
                Path(scratch).replace(folder)
                Path(scratch).mkdir()
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"`{folder.parent}` must have room for the unpacked model, got: {_first_line(error)}; "
            "free some space, or set XDG_CACHE_HOME to another place"
        ) from error
    return folder


def cache_folder() -> Path:
    """Give the folder for what can be made again: ``$XDG_CACHE_HOME/compression-planner``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "compression-planner"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
