"""Layers that stay on disk: each is read when it is used, and forgotten after its use."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, remove_hook_from_submodules
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from search_spaces.errors import ModelError

Change = Callable[[nn.Module], None]
"""Alters the weights of one layer in place."""


@dataclass(frozen=True, kw_only=True)
class StoredWeight:
    """Where a weight lies on disk."""

    file: str
    name: str
    """In the file, which may differ from the model's."""
    dtype: torch.dtype
    """That transformers would load it in."""


class LayerStream:
    """The layers of one model, of which only those in use are in memory.

    The parameters of all others are on the ``meta`` device. A layer that is called reads itself;
    whoever needs its weights at other times, or for several calls, asks for `resident`.

    Args:
        layers: Their parameters on the ``meta`` device, in the dtype that they are stored in.
        stack_path: Where the layers are in the model.
        stored: Where each of the model's weights lies, by name.
        device: Where weights go that are read.
    """

    def __init__(
        self,
        layers: nn.ModuleList,
        stack_path: str,
        stored: Mapping[str, StoredWeight],
        device: str,
    ) -> None:
        self._layers = layers
        self._prefix = f"{stack_path}."
        self._device = device
        self._users = [0] * len(layers)
        self._absent: list[Mapping[str, nn.Parameter]] = [{}] * len(layers)
        self._changes: list[list[Change]] = [[] for _ in layers]
        self._stored = [
            {path: stored[f"{stack_path}.{index}.{path}"] for path, _ in layer.named_parameters()}
            for index, layer in enumerate(layers)
        ]
        for index, layer in enumerate(layers):
            self._read_when_called(index, layer)

    @contextmanager
    def resident(self, index: int) -> Iterator[nn.Module]:
        """Give a layer whose weights are in memory for as long as any such context lasts.

        Raises:
            ModelError: Where they cannot be read any more, or are of another shape.
        """
        try:
            self._take(index)
            yield self._layers[index]
        finally:
            self._leave(index)

    def change_(self, index: int, change: Change) -> None:
        """Alter a layer after each time that it is read from now on."""
        assert not self._users[index], "a layer in use cannot be changed"
        self._changes[index].append(change)

    def weights(self, model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
        """Give all weights of the model in the order of their names, a layer at a time."""
        names = sorted(name for name, _ in model.named_parameters())
        for index, group in groupby(names, self._layer_of):
            with nullcontext() if index is None else self.resident(index):
                for name in group:
                    yield name, model.get_parameter(name)

    def _layer_of(self, name: str) -> int | None:
        inside = name.removeprefix(self._prefix)
        return None if inside == name else int(inside.partition(".")[0])

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
        self._users[index] = max(0, self._users[index] - 1)  # it may not have been read whole
        if not self._users[index]:
            for path, weight in self._absent[index].items():
                _place(self._layers[index], path, weight)

    # not an inference tensor, whoever asks: the structure is read by following gradients
    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def _read(self, index: int) -> None:
        layer = self._layers[index]
        absent = dict(layer.named_parameters())
        self._absent[index] = absent
        for path, weight in _read_weights(self._stored[index]):
            if weight.shape != absent[path].shape:
                raise ModelError(
                    "a checkpoint must hold every weight of its model, and "
                    f"`{self._prefix}{index}.{path}` has the shape {tuple(weight.shape)} in place "
                    f"of {tuple(absent[path].shape)}; download it again"
                )
            _place(layer, path, _parameter(weight.to(self._device)))
        # as stored, for half the bytes are to be moved then
        for change in self._changes[index]:
            change(layer)
        for path, weight in list(layer.named_parameters()):
            _place(layer, path, _parameter(weight.to(absent[path].dtype)))


def layers_on_disk(model: nn.Module, stack_path: str, device: str) -> dict[str, str]:
    """Give the device map that leaves the layers on disk.

    Args:
        model: May be without weights.
        stack_path: Where the layers are in it.
        device: For every module beside them.
    """
    places: dict[str, str] = {}
    parent = ""
    for name in stack_path.split("."):
        inside = f"{parent}." if parent else ""
        children = model.get_submodule(parent).named_children()
        places |= {f"{inside}{child}": device for child, _ in children if child != name}
        parent = f"{inside}{name}"
    return places | {parent: "disk"}


def take_over(model: PreTrainedModel, stack_path: str, device: str) -> LayerStream:
    """Stream the layers that accelerate offloaded to disk, in the place of its own hooks.

    Those read one module at a time, at each call, and know no permutation.

    Args:
        model: As transformers loads it with the device map `layers_on_disk`.
        stack_path: Where the layers are in the model.
        device: Where weights go that are read.
    """
    hooks: Iterator[Any] = (getattr(module, "_hf_hook", None) for module in model.modules())
    index = next(
        hook.weights_map.dataset.index
        for hook in hooks
        if isinstance(hook, AlignDevicesHook) and hook.offload and hook.weights_map is not None
    )
    remove_hook_from_submodules(model)
    for module in model.modules():
        # left behind, bound to this very module: a narrow copy would run the dense one
        vars(module).pop("forward", None)
    stored = {
        name: StoredWeight(
            file=place["safetensors_file"],
            name=place["weight_name"],
            dtype=getattr(torch, place["dtype"]),
        )
        for name, place in index.items()
    }
    layers = model.get_submodule(stack_path)
    assert isinstance(layers, nn.ModuleList)
    return LayerStream(layers, stack_path, stored, device)


def _read_weights(stored: Mapping[str, StoredWeight]) -> Iterator[tuple[str, Tensor]]:
    """Give weights by their paths; each file is opened once and stays neither open nor mapped."""
    for file, group in groupby(sorted(stored.items(), key=_file), _file):
        try:
            with safe_open(file, framework="pt", backend="pread") as opened:
                for path, place in group:
                    yield path, opened.get_tensor(place.name).to(place.dtype)
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"the files of a streamed model must stay as they are, and `{file}` cannot be "
                f"read: {error}; bring it back and begin again"
            ) from error


def _file(item: tuple[str, StoredWeight]) -> str:
    return item[1].file


def _parameter(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _place(layer: nn.Module, path: str, weight: nn.Parameter) -> None:
    owner, _, name = path.rpartition(".")
    setattr(layer.get_submodule(owner), name, weight)
