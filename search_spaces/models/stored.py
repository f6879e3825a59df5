"""What a checkpoint holds where its config says something else: number formats, an own head."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from search_spaces.errors import ModelError, quoted
from search_spaces.models.checkpoint import locate, read_weights
from search_spaces.models.fingerprint import lasting
from search_spaces.models.on_disk.source_files import WeightFiles

_FORMATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""Names in safetensors of the number formats that weights may have."""


@dataclass(frozen=True, kw_only=True)
class StoredFormat:
    """Number formats of a model's weights on disk, which an export keeps."""

    dtype: torch.dtype
    """Of most weights."""
    apart: Mapping[str, torch.dtype] = field(default_factory=dict)
    """Of weights and persistent buffers that are stored in another, by their names in memory."""
    coarsest_matrix: torch.dtype | None = None
    """Of matrices the format with the fewest digits; None: that of most weights."""
    added_bias: torch.dtype | None = None
    """Of biases that pruned components gain; None: those of their matrices."""

    def of(self, name: str, tensor: Tensor) -> torch.dtype:
        """Return the format of one of the model's weights or persistent buffers."""
        usual = self.dtype if isinstance(tensor, nn.Parameter) else tensor.dtype
        return self.apart.get(name, usual)

    @property
    def rounding(self) -> torch.dtype:
        """What new matrices are rounded to, so that they can be stored in the place of any."""
        return self.coarsest_matrix or self.dtype


def check_formats(name: str, empty: PreTrainedModel, files: WeightFiles) -> None:
    """Refuse weights in formats that mean nothing without scales, such as eight bits.

    transformers would take their codes for the weights themselves.

    Args:
        name: The user's name of the model.
        empty: The model without weights.
        files: Its weights.

    Raises:
        ModelError: If there are such, and the config does not say how they are read.
    """
    if getattr(empty.config, "quantization_config", None):
        return
    odd = {name: t for name, t in files.tensors.items() if t.dtype not in _FORMATS}
    for weight in locate(empty, odd):
        target = empty.get_parameter_or_buffer(weight.names[0])
        if isinstance(target, nn.Parameter) and target.is_floating_point():
            piece = weight.pieces[0].name
            raise ModelError(
                f"weights must be stored as {', '.join(_FORMATS)} or with `quantization_config`, "
                f"and {quoted(piece)} of {quoted(name)} is {odd[piece].dtype} without one; give "
                "the model as it was before quantisation, or its whole config.json"
            )


def check_count(name: str, empty: PreTrainedModel, files: WeightFiles) -> None:
    """Refuse a checkpoint that lacks most of its model, for which transformers takes random ones.

    To make those may take all memory; `check_complete` names what else is missing.

    Args:
        name: The user's name of the model.
        empty: The model without weights.
        files: Its weights.

    Raises:
        ModelError: If it holds less than half.
    """
    needed = sum(weight.numel() for weight in empty.parameters())
    held = sum(math.prod(tensor.shape) for tensor in files.tensors.values())
    if held < needed / 2 and not getattr(empty.config, "quantization_config", None):
        raise ModelError(
            f"a checkpoint must hold every weight of its model, and that of {quoted(name)} holds "
            f"{held:,} numbers of {needed:,}; get the whole checkpoint, or the config.json that "
            "belongs to it"
        )


def restore_(model: PreTrainedModel, files: WeightFiles) -> StoredFormat:
    """Give a model the weights as stored that transformers rounded to the dtype of its config.

    Args:
        model: As it was loaded; a weight on the ``meta`` device gets the dtype alone.
        files: That it was loaded from.

    Returns:
        The formats on disk.

    Raises:
        ModelError: If the files cannot be read.
    """
    loaded = next(model.parameters()).dtype
    if getattr(model.config, "quantization_config", None):
        return StoredFormat(dtype=loaded)
    formats = {n: _FORMATS[t.dtype] for n, t in files.tensors.items() if t.dtype in _FORMATS}
    weights = lasting(model)
    floats = {weight.dtype for weight in weights.values() if weight.is_floating_point()}
    if floats == set(formats.values()) == {loaded}:
        return StoredFormat(dtype=loaded)
    names = _names(model)
    located = {
        names[name]: stored
        for stored in locate(model, files.tensors)
        for name in stored.names
        if names.get(name) in weights and all(piece.name in formats for piece in stored.pieces)
    }
    stored = {
        name: reduce(torch.promote_types, (formats[piece.name] for piece in weight.pieces))
        for name, weight in located.items()
    }
    rounded = [name for name, dtype in stored.items() if _loses(weights[name], dtype)]
    for name in rounded:
        if weights[name].is_meta:
            weights[name].data = weights[name].data.to(stored[name])
    present = {id(located[name]): located[name] for name in rounded if not weights[name].is_meta}
    for alias, weight in read_weights(present.values(), model):
        tensor = weights[names[alias]]
        tensor.data = weight.to(tensor.device, stored[names[alias]])
    return _described(weights, stored, loaded)


def untie_(model: PreTrainedModel) -> None:
    """Make a config say that the head is the model's own, where its checkpoint holds another.

    transformers does not tie two weights that differ on disk, whatever the config says; who
    believes the config would compute something else.

    Raises:
        ModelError: If weights differ that the architecture always ties.
    """
    for config in (model.config, model.config.get_text_config()):
        if _untied(model) is not None:
            config.tie_word_embeddings = False
    if (names := _untied(model)) is not None:
        raise ModelError(
            f"weights that an architecture ties must be equal, and `{names[0]}` differs from "
            f"`{names[1]}` in the checkpoint; remove one of them from it"
        )


def _untied(model: PreTrainedModel) -> tuple[str, str] | None:
    """Return the names of two weights that the config ties and the model does not, if any."""
    tied = model.get_expanded_tied_weights_keys(all_submodels=True)
    pairs = ((target, source) for target, source in tied.items())
    return next(
        (
            (target, source)
            for target, source in pairs
            if model.get_parameter_or_buffer(target) is not model.get_parameter_or_buffer(source)
        ),
        None,
    )


def _names(model: nn.Module) -> dict[str, str]:
    """Return the name that `lasting` gives each weight and buffer, by any name it has."""
    first: dict[int, str] = {}
    tensors = (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    )
    return {name: first.setdefault(id(tensor), name) for name, tensor in tensors}


def _loses(weight: Tensor, stored: torch.dtype) -> bool:
    """Return whether a stored weight is rounded when it is read into one's dtype."""
    return torch.promote_types(weight.dtype, stored) != weight.dtype


def _described(
    weights: Mapping[str, Tensor], stored: Mapping[str, torch.dtype], loaded: torch.dtype
) -> StoredFormat:
    counts: Counter[torch.dtype] = Counter({loaded: 0})
    for name, dtype in stored.items():
        if isinstance(weights[name], nn.Parameter):
            counts[dtype] += weights[name].numel()
    described = StoredFormat(dtype=counts.most_common(1)[0][0])
    matrices = [dtype for name, dtype in stored.items() if weights[name].ndim > 1]
    return StoredFormat(
        dtype=described.dtype,
        coarsest_matrix=max(matrices, key=lambda dtype: torch.finfo(dtype).eps, default=None),
        apart={
            name: dtype
            for name, dtype in stored.items()
            if dtype != described.of(name, weights[name])
        },
    )
