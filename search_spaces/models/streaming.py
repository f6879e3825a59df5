"""Layers that stay on disk: each is read when it is used, and freed after its use."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from search_spaces.errors import ModelError, quoted
from search_spaces.models.checkpoint import (
    StoredWeight,
    locate,
    placeholder,
    read_weights,
    unused_tensors,
)
from search_spaces.models.checks import check_complete, misshapen
from search_spaces.models.fingerprint import lasting
from search_spaces.models.layer_stack import LayerStack, find_stack
from search_spaces.models.on_disk.source_files import WeightFiles
from search_spaces.models.tensors import tensor_at
from search_spaces.models.trust import load_state

Change = Callable[[nn.Module], None]
"""Changes the weights of one layer in place."""


class LayerStream:
    """The layers of one model, of which only those in use are in memory.

    The parameters of all others, and their persistent buffers, are on the ``meta`` device. A layer
    reads itself when it is called; whoever needs its weights at other times, or for several calls,
    uses `resident`.

    Args:
        model: Its layers on the ``meta`` device, in the dtype that transformers would load.
        stack: Its layers.
        stored: The tensors on disk of each layer, ``(layers,)``.
        device: Where weights are placed when they are read.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: LayerStack,
        stored: Sequence[Sequence[StoredWeight]],
        device: str,
    ) -> None:
        layers = tuple(stack.layers.values())
        self._model = model
        self._stack = stack
        self._layers = layers
        self._paths = tuple(stack.layers)
        self._device = device
        self._users = [0] * len(layers)
        self._absent: list[Mapping[str, Tensor]] = [{}] * len(layers)
        self._changes: list[list[Change]] = [[] for _ in layers]
        self._stored = stored
        for index, layer in enumerate(layers):
            self._read_when_called(index, layer)

    @contextmanager
    def resident(self, index: int) -> Iterator[nn.Module]:
        """Keep a layer's weights in memory for as long as any such context lasts; yield the layer.

        Raises:
            ModelError: If they cannot be read any more, or are of another shape.
        """
        try:
            self._take(index)
            yield self._layers[index]
        finally:
            self._leave(index)

    def change_(self, index: int, change: Change) -> None:
        """Apply a change to a layer whenever it is read from now on."""
        assert not self._users[index], "a layer in use cannot be changed"
        self._changes[index].append(change)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield what `lasting` returns of the model by name, one layer in memory at a time."""
        for index, group in groupby(sorted(lasting(self._model)), self._stack.layer_of):
            with nullcontext() if index is None else self.resident(index):
                for name in group:
                    yield name, tensor_at(self._model, name)

    def _read_when_called(self, index: int, layer: nn.Module) -> None:
        def before(*_: object) -> None:
            self._take(index)

        def after(*_: object) -> None:
            self._leave(index)

        layer.register_forward_pre_hook(before)
        layer.register_forward_hook(after, always_call=True)

    def _take(self, index: int) -> None:
        if not self._users[index]:
            self._read(index)
        self._users[index] += 1

    def _leave(self, index: int) -> None:
        self._users[index] = max(0, self._users[index] - 1)  # reading it may have failed halfway
        if not self._users[index]:
            for path, weight in self._absent[index].items():
                _place(self._layers[index], path, weight)

    # no inference tensors, whatever the caller's mode: reading the structure follows gradients
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _read(self, index: int) -> None:
        layer = self._layers[index]
        absent = lasting(layer)
        self._absent[index] = absent
        prefix = f"{self._paths[index]}."
        for name, weight in read_weights(self._stored[index], self._model):
            path = name.removeprefix(prefix)
            if weight.shape != absent[path].shape:
                model = self._model.name_or_path
                raise misshapen(str(model), name, tuple(weight.shape), tuple(absent[path].shape))
            # as stored: what the model computes in comes after the changes
            is_weight = isinstance(absent[path], nn.Parameter)
            read = weight.to(self._device)
            _place(layer, path, _parameter(read) if is_weight else read)
        # before the cast, for half the bytes are moved then
        for change in self._changes[index]:
            change(layer)
        for path, weight in list(layer.named_parameters()):
            _place(layer, path, _parameter(weight.to(absent[path].dtype)))


def open_streamed(
    source: str,
    files: WeightFiles,
    empty: PreTrainedModel,
    device: str,
    options: Mapping[str, Any],
) -> tuple[PreTrainedModel, LayerStream, Mapping[str, object]]:
    """Load what a model holds besides its layers, and stream these.

    Args:
        source: A HuggingFace folder or hub name.
        files: Its weights.
        empty: The model without weights.
        device: Where weights are placed when they are read.
        options: For transformers, those that the empty model was made with.

    Returns:
        The model, the stream, and the loading info of transformers for the weights outside the
        layers.

    Raises:
        ModelError: If the checkpoint lacks a weight of a layer, or holds quantised ones.
    """
    if getattr(empty.config, "quantization_config", None):
        raise ModelError(
            f"the weights of a streamed model must lie on disk as numbers, and {quoted(source)} "
            "holds quantised ones; load it whole, with `--offload never`"
        )
    stack = find_stack(empty)
    stored = locate(empty, files.tensors)
    outside: list[StoredWeight] = []
    layers: list[list[StoredWeight]] = [[] for _ in stack.layers]
    for weight in stored:
        index = stack.layer_of(weight.names[0])
        (outside if index is None else layers[index]).append(weight)
    absent = {n: w for n, w in lasting(empty).items() if stack.layer_of(n) is not None}
    held = {name for weight in stored for name in weight.names}
    check_complete(source, {"missing_keys": absent.keys() - held}, empty)
    weights = dict(read_weights(outside, empty))
    float_dtypes = (weight.dtype for weight in weights.values() if weight.is_floating_point())
    dtype: Any = empty.config.dtype or next(float_dtypes)
    # placeholders take no memory, and the layers' own are replaced at once
    placeholders = {name: placeholder(weight, dtype) for name, weight in absent.items()}
    model, info = load_state(
        type(empty), empty.config, weights | placeholders, dtype=dtype, **options
    )
    info["unexpected_keys"] = unused_tensors(empty, files.tensors)
    for name, tensor in absent.items():
        absent_weight = torch.empty(tensor.shape, dtype=dtype, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        _place(model, name, _parameter(absent_weight) if is_parameter else absent_weight)
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_meta:
            tensor.data = tensor.data.to(device)
    return model, LayerStream(model, find_stack(model), layers, device), info


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _place(module: nn.Module, path: str, weight: Tensor) -> None:
    owner, _, name = path.rpartition(".")
    setattr(module.get_submodule(owner), name, weight)
