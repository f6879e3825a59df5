"""Fingerprints that tell models apart by their weights, and all else that identifies them."""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from search_spaces.models.identity import SourceIdentity, Verify, computing_values

SAMPLED_VALUES = 64
"""Values hashed of each tensor: enough to notice a fine-tuned sibling, cheap for any size."""
_PIECE = 2**22
_COLUMNS = 1024


def identify(
    model: PreTrainedModel,
    weights: Iterable[tuple[str, Tensor]] | None = None,
    *,
    dtypes: Mapping[str, torch.dtype] | None = None,
    verify: Verify = "sample",
) -> SourceIdentity:
    """Return what identifies a model's weights; it must not be sorted or cast yet.

    Two dtypes of the same weights count as one model as long as the weights survive the cast.

    Args:
        model: The model.
        weights: What `lasting` returns of it, in the order of the names, if the model is not in
            memory.
        dtypes: Those that transformers loads weights in, by their names; None: those they have.
        verify: Whether to take a cryptographic digest too.
    """
    fingerprint, checksum, digest = (hashlib.sha256() for _ in range(3))
    params = 0
    for name, weight in sorted(lasting(model).items()) if weights is None else weights:
        flat = weight.detach().reshape(-1)
        steps = torch.arange(SAMPLED_VALUES, device=flat.device)
        positions = steps * (len(flat) - 1) // SAMPLED_VALUES
        header = f"{name}{tuple(weight.shape)}".encode()
        fingerprint.update(header)
        sample = flat[positions].to("cpu", None if dtypes is None else dtypes[name])
        fingerprint.update(sample.to(torch.float32).numpy().tobytes())
        checksum.update(header)
        digest.update(header)
        for piece in torch.split(flat, _PIECE):
            values = piece.to(torch.float32)
            if piece.itemsize > values.itemsize and not torch.equal(values.to(piece.dtype), piece):
                values = piece
            for sums in _sums(values):
                checksum.update(sums.cpu().numpy().tobytes())
            if verify == "full":
                digest.update(values.cpu().numpy().tobytes())
        params += weight.numel() if isinstance(weight, nn.Parameter) else 0
    return SourceIdentity(
        architecture=type(model).__name__,
        fingerprint=fingerprint.hexdigest()[:16],
        params=params,
        checksum=checksum.hexdigest()[:16],
        digest=digest.hexdigest() if verify == "full" else "",
    )


def _sums(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of rows and columns of the values' bits, which notice what moved too."""
    words_a_number = 8 // values.itemsize
    padded = functional.pad(values, (0, -len(values) % (_COLUMNS * words_a_number)))
    words = padded.contiguous().view(torch.int64).view(-1, _COLUMNS)
    return words.sum(0), words.sum(1)


def describe_source(
    identity: SourceIdentity,
    config: PreTrainedConfig,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> SourceIdentity:
    """Return the identity of weights with that of all else that a model's folder holds."""
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    vocabulary = json.dumps([sorted(tokenizer.get_vocab().items()), special], sort_keys=True)
    generation: GenerationConfig | None = model.generation_config
    values = {
        "config": computing_values(config.to_dict()),
        "transformers": transformers.__version__,
        "generation": {} if generation is None else computing_values(generation.to_dict()),
        "tokenizer": _hash(vocabulary, *_rules(tokenizer)),
        "vocabulary": _hash(vocabulary),
        "code": _code(type(model), type(config), type(tokenizer)),
    }
    return identity.model_copy(update=values)


def _code(*classes: type) -> str:
    """Return what identifies the code of classes that came with a model, if any did."""
    names = sorted({each.__module__ for each in classes})
    files = [
        sys.modules[name].__file__ for name in names if name.startswith("transformers_modules")
    ]
    return _hash(*(Path(file).read_bytes().hex() for file in files if file)) if files else ""


def _rules(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """Yield what determines the tokens that a tokenizer gives, besides its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        yield backend.to_str()
        return
    # it is written in Python: its files and switches say the rest, wherever they lie
    options = tokenizer.init_kwargs
    yield type(tokenizer).__name__
    yield repr(sorted((key, value) for key, value in options.items() if isinstance(value, bool)))
    for name in sorted(tokenizer.vocab_files_names):
        if (path := getattr(tokenizer, name, None)) and Path(path).is_file():
            yield _hash(Path(path).read_bytes().hex())


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def lasting(module: nn.Module) -> dict[str, Tensor]:
    """Return all that a checkpoint stores of a module by name: parameters, persistent buffers.

    Tied parameters come once.
    """
    stored = module.state_dict()
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in stored}
    return {**dict(module.named_parameters()), **buffers}
