"""Tracing: a few layers of each shape, between boundaries that are outputs of the graph.

`torch.onnx.export` takes seconds a layer, and the layers of a model are alike but for their
weights. So only one of each shape runs in a trace, while all others let hidden states pass, and
what goes in and out of each is an output of the graph: its nodes are those in between.
"""

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx_ir
import torch
from torch import Tensor, nn

from planner.targets.onnx.dense_probe import CacheShape, DenseProbe
from planner.targets.onnx.traced_cache import KeysAndValues, TracedCache
from search_spaces.errors import TargetError, quoted
from search_spaces.structure.backbone import Backbone
from search_spaces.structure.hooks import hooked

OPSET = 18
"""Of the operators of ONNX: one that all runtimes have known for long."""
_BATCH, _NEW, _PAST = 2, 3, 5
"""Sizes of what is traced, each another, so that none is taken for another."""


@dataclass(frozen=True, kw_only=True)
class Boundary:
    """What goes in and out of one layer of a trace."""

    hidden: onnx_ir.Value
    call: tuple[onnx_ir.Value, ...]
    """What the model passes besides: rotary tables, masks."""
    output: onnx_ir.Value
    past: tuple[onnx_ir.Value, ...]
    """Keys and values; empty: no attention runs there."""
    present: tuple[onnx_ir.Value, ...]


@dataclass(frozen=True, kw_only=True)
class Trace:
    """The graph of a model in which some layers run."""

    inputs: Mapping[str, onnx_ir.Value]
    """Those besides past keys and values, by their names."""
    layers: tuple[Boundary, ...]
    """Of all places."""
    logits: onnx_ir.Value


def trace(
    backbone: Backbone,
    probe: DenseProbe,
    layers: Mapping[int, nn.Module],
    caches: Mapping[int, CacheShape],
) -> Trace:
    """Trace a model in which only some layers run.

    Args:
        backbone: The dense model.
        probe: Of it.
        layers: Those that run, by their places.
        caches: Of those that have an attention.

    Raises:
        TargetError: If its code cannot be traced, or keeps more than keys and values.
    """
    passing = [_Passing(layer, probe.returns_tuples) for layer in backbone.layers]
    stack = [layers.get(place, other) for place, other in enumerate(passing)]
    traced = _Traced(backbone.model, stack, caches)
    inputs, shapes = _inputs(list(caches.values()))
    with _quiet(), torch.no_grad(), backbone.replaced(stack):
        try:
            program = torch.onnx.export(
                traced,
                kwargs=inputs,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
                optimize=False,
                opset_version=OPSET,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise TargetError(
                "`--format onnx` needs a model whose code torch can trace with keys and values "
                f"for a cache, and {quoted(type(backbone.model).__name__)} is none; choose "
                "another format"
            ) from error
    assert program is not None
    return traced.located(program.model.graph)


def _inputs(caches: Sequence[CacheShape]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is traced with, and which sizes of it are dynamic."""
    inputs: dict[str, Any] = {
        "input_ids": torch.zeros(_BATCH, _NEW, dtype=torch.long),
        "attention_mask": torch.ones(_BATCH, _PAST + _NEW, dtype=torch.long),
        "position_ids": torch.arange(_PAST, _PAST + _NEW).repeat(_BATCH, 1),
        "past_length": torch.zeros(_PAST),
        "past": [cache.zeros(_BATCH, _PAST) for cache in caches],
    }
    batch, new, past = (torch.export.Dim(name) for name in ("batch", "new", "past"))
    row = {0: batch, 1: new}
    shapes = {
        "input_ids": row,
        "attention_mask": {0: batch, 1: torch.export.Dim.AUTO},
        "position_ids": row,
        "past_length": {0: past},
        "past": [({0: batch, 2: past},) * 2 for _ in caches],
    }
    return inputs, shapes


class _Passing(nn.Module):
    """Takes a layer's place in a trace and lets hidden states pass."""

    def __init__(self, dense: nn.Module, returns_tuples: bool) -> None:  # noqa: FBT001
        super().__init__()
        self.__dict__.update(_dense=dense, _returns_tuples=returns_tuples)  # no module of its own

    def __getattr__(self, name: str) -> Any:
        """Answer what a decoder asks of a layer, such as its type, as the dense one does."""
        return getattr(self.__dict__["_dense"], name)

    def forward(self, hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
        return (hidden_states, None) if self._returns_tuples else hidden_states


@dataclass
class _Notes:
    """Where the boundaries of a trace are among its inputs and outputs, by their numbers."""

    tensors: list[Tensor]
    layers: list[tuple[int, list[int], int]]
    """Of each layer what goes in, what is passed besides, and what comes out."""
    present: list[int]
    logits: int = 0

    def start(self, inputs: Sequence[Tensor]) -> None:
        """Forget all but the inputs."""
        self.tensors, self.layers, self.present = list(inputs), [], []

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor, which is noted if it is new."""
        for number, other in enumerate(self.tensors):
            if other is tensor:
                return number
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def layer(
        self, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        """Note one that has run, as a hook."""
        rest = dict(kwargs)
        hidden = args[0] if args else rest.pop("hidden_states")
        call = [*_tensors(args[1:]), *_tensors(rest)]
        result = output[0] if isinstance(output, tuple) else output
        numbers = [self.number(each) for each in (hidden, *call, result)]
        self.layers.append((numbers[0], numbers[1:-1], numbers[-1]))


class _Traced(nn.Module):
    """A model that returns what goes in and out of each layer.

    Args:
        model: With layers of which some let hidden states pass.
        layers: All of them.
        caches: Of those with an attention, by their places.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[nn.Module], caches: Mapping[int, CacheShape]
    ) -> None:
        super().__init__()
        self.model = model
        self._layers = list(layers)
        self._places = tuple(caches)
        self._slots = [cache.slot for cache in caches.values()]
        self._accepted = inspect.signature(model.forward).parameters.keys()
        self._notes = _Notes([], [], [])  # changed in place: torch undoes what a trace assigns

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        past_length: Tensor,
        past: list[KeysAndValues],
    ) -> list[Tensor]:
        inputs = [input_ids, attention_mask, position_ids, past_length]
        inputs += [each for pair in past for each in pair]
        notes = self._notes
        notes.start(inputs)
        cache = TracedCache(dict(zip(self._slots, past, strict=True)), past_length.shape[0])
        optional = {"position_ids": position_ids} if "position_ids" in self._accepted else {}
        with hooked(
            layer.register_forward_hook(notes.layer, with_kwargs=True) for layer in self._layers
        ):
            output = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                past_key_values=cache,
                use_cache=True,
                **optional,
            )
        pairs = [cache.present[slot] for slot in self._slots]
        notes.present = [notes.number(each) for pair in pairs for each in pair]
        notes.logits = notes.number(output.logits)
        return notes.tensors[len(inputs) :]

    def located(self, graph: onnx_ir.Graph) -> Trace:
        """Return the boundaries in the graph of it, as its forward has noted them."""
        notes, values = self._notes, [*graph.inputs, *graph.outputs]
        names = ("input_ids", "attention_mask", "position_ids", "past_length")
        past, present = iter(graph.inputs[len(names) :]), iter(notes.present)
        layers: list[Boundary] = []
        for place, (hidden, call, output) in enumerate(notes.layers):
            pair = range(2 if place in self._places else 0)
            layers.append(
                Boundary(
                    hidden=values[hidden],
                    call=tuple(values[each] for each in call),
                    output=values[output],
                    past=tuple(next(past) for _ in pair),
                    present=tuple(values[next(present)] for _ in pair),
                )
            )
        return Trace(
            inputs=dict(zip(names, graph.inputs, strict=False)),
            layers=tuple(layers),
            logits=values[notes.logits],
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield all tensors of nested tuples, lists and mappings, in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from _tensors(value[key])
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch says of its own workings, as it traces, from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
