"""Checkpoints on disk: where the tensors of a model are stored, and how to convert them.

A mixture of experts keeps the matrices of all experts in one tensor, while its files hold one for
each expert. transformers converts one into the other; called layer by layer, it does so without
the whole model in memory.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from search_spaces.errors import ModelError, quoted
from search_spaces.models.memory import is_out_of_memory
from search_spaces.models.on_disk.source_files import StoredTensor

_LEFT_OVER = (r"rotary_emb\.inv_freq", r"(^|\.)position_ids$")
"""Buffers that old checkpoints hold, and transformers makes anew."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One tensor in a file."""

    file: str
    name: str
    """Its name in the file, which may differ from the model's."""
    pattern: str
    """Pattern of the converter that the name matches; empty: there is none."""


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """The tensors on disk of a weight, or of several weights that are stored as one."""

    names: tuple[str, ...]
    """Names in the model."""
    pieces: tuple[Piece, ...]
    """In the order of their experts."""
    converter: WeightConverter | None = None
    """Converts the pieces into the weights; None: the one piece is the one weight."""

    def read(
        self, tensor_of: Callable[[Piece], Tensor], model: PreTrainedModel
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the weights with their names in the model.

        Args:
            tensor_of: Reads a piece.
            model: The model; its config may determine how they are split.
        """
        if self.converter is None:
            yield self.names[0], tensor_of(self.pieces[0])
            return
        # a converter accumulates what it converts, so each reading takes a fresh one
        converter: Any = copy.deepcopy(self.converter)
        for piece in self.pieces:

            def read_piece(piece: Piece = piece) -> Tensor:
                return tensor_of(piece)

            converter.add_tensor(self.names[0], piece.name, piece.pattern, read_piece)
        for name, weight in converter.convert(
            self.names[0], model=model, config=model.config
        ).items():
            yield name, weight[0] if isinstance(weight, list) else weight


def locate(model: PreTrainedModel, tensors: Mapping[str, StoredTensor]) -> list[StoredWeight]:
    """Find the tensors on disk of each of a model's weights and persistent buffers.

    Args:
        model: May be on the ``meta`` device.
        tensors: On disk, by their names there.
    """
    transforms = get_model_conversion_mapping(model)
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    pieces: dict[str, list[Piece]] = {}
    for name, target, pattern in _targets(model, tensors):
        if target is not None:
            piece = Piece(file=str(tensors[name].file), name=name, pattern=pattern)
            pieces.setdefault(target, []).append(piece)
    return [_stored(target, parts, by_pattern) for target, parts in pieces.items()]


def unused_tensors(model: PreTrainedModel, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """Return the names of tensors on disk that are none of a model's, nor known to be left over.

    Args:
        model: May be on the ``meta`` device.
        tensors: On disk, by their names there.
    """
    known = [*(model._keys_to_ignore_on_load_unexpected or ()), *_LEFT_OVER]
    return [
        name
        for name, target, _ in _targets(model, tensors)
        if target is None and not any(re.search(pattern, name) for pattern in known)
    ]


def _targets(
    model: PreTrainedModel, names: Iterable[str]
) -> Iterator[tuple[str, str | None, str]]:
    """Yield names on disk with those in the model, if it has them, and their converters'."""
    state = model.state_dict()
    transforms = get_model_conversion_mapping(model)
    renamings = [entry for entry in transforms if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in transforms if isinstance(entry, WeightConverter)]
    context: dict[str, Any] = {
        "base_model_prefix": model.base_model_prefix,
        "meta_state_dict": state,
    }
    # experts are stacked in the order of their numbers
    for name in sorted(names, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, **context)
        if target not in state and name in state:
            target, pattern = rename_source_key(name, [], [], **context)
        yield name, target if target in state else None, pattern or ""


def _stored(
    target: str, pieces: list[Piece], by_pattern: Mapping[str, WeightConverter]
) -> StoredWeight:
    converter = by_pattern.get(pieces[0].pattern)
    if converter is None:
        return StoredWeight(names=(target,), pieces=tuple(pieces[-1:]))
    first, *others = converter.target_patterns
    names = (target, *(target.replace(first, other) for other in others))
    return StoredWeight(names=names, pieces=tuple(pieces), converter=converter)


def read_weights(
    stored: Iterable[StoredWeight], model: PreTrainedModel
) -> Iterator[tuple[str, Tensor]]:
    """Yield weights with their names; no file stays open or mapped after the last.

    Raises:
        ModelError: If a file cannot be read, or its tensors do not fit the model's weights.
    """
    with ExitStack() as files:
        opened: dict[str, Any] = {}

        def tensor_of(piece: Piece) -> Tensor:
            try:
                if piece.file not in opened:
                    file = safe_open(piece.file, framework="pt", backend="pread")
                    opened[piece.file] = files.enter_context(file)
                tensor: Tensor = opened[piece.file].get_tensor(piece.name)
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    "the files of a streamed model must stay as they are, and "
                    f"{quoted(piece.file)} cannot be read any more; bring it back and begin again"
                ) from error
            return tensor

        for weight in stored:
            try:
                yield from weight.read(tensor_of, model)
            except (RuntimeError, ValueError, LookupError) as error:
                if isinstance(error, ModelError) or is_out_of_memory(error):
                    raise
                raise ModelError(
                    f"the tensors of {quoted(weight.names[0])} on disk must fit together, such as "
                    f"{quoted(weight.pieces[0].name)}, and they do not; get the config.json and "
                    "the weights that belong together"
                ) from error


def placeholder(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Return a tensor of a weight's shape that takes the memory of one number."""
    return torch.zeros((), dtype=dtype).expand(weight.shape)
