"""Putting a graph together from copies of the parts of traces."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir
from onnx_ir.passes import common
from onnx_ir.tensor_adapters import TorchTensor
from torch import Tensor

from planner.targets.onnx.dense_probe import CacheShape
from planner.targets.onnx.layer_tracing import OPSET, Boundary, Trace

IR_VERSION = 10
"""Of the file: one that runtimes have read since 2024."""
_INT64 = onnx_ir.DataType.INT64
_FLOAT = onnx_ir.DataType.FLOAT


@dataclass(frozen=True, kw_only=True)
class Template:
    """A layer of a trace that others are copied from."""

    boundary: Boundary
    trace: Trace
    prefix: str
    """Of the names of its weights."""

    def integers(self) -> set[int]:
        """Return all constant integers in its graph, such as sizes to reshape to."""
        stops = {self.boundary.hidden, *self.boundary.call, *self.boundary.past}
        found: set[int] = set()
        for value in _ancestors([self.boundary.output, *self.boundary.present], stops):
            if value.const_value is not None and not str(value.name).startswith(self.prefix):
                found |= _integers_of(value.const_value)
            elif (node := value.producer()) is not None and node.op_type == "Constant":
                found |= {n for each in node.attributes.values() for n in _integers_of(each.value)}
        return found


class GraphAssembly:
    """A graph that grows layer by layer.

    Args:
        ends: The trace that what lies before and behind the layers is copied from.
        caches: Of each layer; None: it has no attention.
    """

    def __init__(self, ends: Trace, caches: Sequence[CacheShape | None]) -> None:
        self._ends = ends
        tokens: dict[str, Sequence[str]] = {
            "input_ids": ("batch_size", "sequence_length"),
            "attention_mask": ("batch_size", "total_sequence_length"),
            "position_ids": ("batch_size", "sequence_length"),
        }
        self._inputs = {name: _input(name, axes, _INT64) for name, axes in tokens.items()}
        self._past = [
            _cache_inputs(index, cache) if cache else () for index, cache in enumerate(caches)
        ]
        self._graph = onnx_ir.Graph([], [], nodes=[], opset_imports={"": OPSET}, name="model")
        self._sizes = _sizes(self._graph, self._inputs)
        self._held: dict[tuple[Any, ...], onnx_ir.Value] = {}
        self._present: list[onnx_ir.Value] = []
        self._around = self._copies(ends, "model")
        self._hidden = self._around.of(ends.layers[0].hidden)
        self._count = 0

    def append(self, template: Template, place: int, tensors: Mapping[str, Tensor]) -> None:
        """Let a layer run behind those that are there.

        Args:
            template: Of its shape.
            place: Of the dense layer whose masks and tables it gets.
            tensors: Its weights, by their names inside the layer.
        """
        index, boundary = self._count, template.boundary
        copies = self._copies(template.trace, f"layers.{index}", template.prefix, tensors)
        copies.known[boundary.hidden] = self._hidden
        for value, passed in zip(boundary.call, self._ends.layers[place].call, strict=True):
            copies.known[value] = self._around.of(passed)
        copies.known.update(zip(boundary.past, self._past[index], strict=True))
        self._hidden = copies.of(boundary.output)
        for value, past in zip(boundary.present, self._past[index], strict=True):
            present = copies.of(value)
            present.name = str(past.name).replace("past_key_values", "present")
            present.type, present.shape = past.type, _grown(past)
            self._present.append(present)
        self._count += 1

    def finished(self) -> onnx_ir.Model:
        """Return the model, with logits behind the last layer."""
        self._around.known[self._ends.layers[-1].output] = self._hidden
        logits = self._around.of(self._ends.logits)
        logits.name = "logits"
        graph = self._graph
        graph.outputs.extend([logits, *self._present])
        inputs = [self._inputs[name] for name in ("input_ids", "attention_mask")]
        if self._inputs["position_ids"].uses():
            inputs.append(self._inputs["position_ids"])
        graph.inputs.extend([*inputs, *(value for pair in self._past for value in pair)])
        model = onnx_ir.Model(graph, ir_version=IR_VERSION, producer_name="compression-planner")
        for tidy in (common.CommonSubexpressionEliminationPass(), common.RemoveUnusedNodesPass()):
            tidy(model)
        return model

    def _copies(
        self,
        trace: Trace,
        name: str,
        prefix: str = "",
        tensors: Mapping[str, Tensor] | None = None,
    ) -> "_Copies":
        known = {trace.inputs[each]: self._inputs[each] for each in self._inputs}
        return _Copies(self._graph, known, self._sizes, self._held, name, prefix, tensors or {})


class _Copies:
    """Copies the nodes that values of a trace come from into another graph, each once.

    Args:
        graph: That they are copied into.
        known: What stands there for values of the trace.
        sizes: Number of sequences and of tokens read before, as tensors ``(1,)``.
        held: All weights of the graph, which those of equal memory share.
        name: Put before the names of what is copied.
        prefix: Of the names of weights that are replaced.
        tensors: By which, by the rest of their names.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (what one copy needs of its graph)
        self,
        graph: onnx_ir.Graph,
        known: dict[onnx_ir.Value, onnx_ir.Value],
        sizes: tuple[onnx_ir.Value, onnx_ir.Value],
        held: dict[tuple[Any, ...], onnx_ir.Value],
        name: str,
        prefix: str,
        tensors: Mapping[str, Tensor],
    ) -> None:
        self.known = known
        self._graph = graph
        self._batch, self._past_length = sizes
        self._held = held
        self._name = name
        self._prefix = prefix
        self._tensors = tensors

    def of(self, value: onnx_ir.Value) -> onnx_ir.Value:
        """Return what stands for a value in the graph."""
        for ancestor in _ancestors([value], self.known):
            self._copy(ancestor)
        return self.known[value]

    def _copy(self, value: onnx_ir.Value) -> None:
        node = value.producer()
        if value in self.known or node is None:
            return  # weights are copied with what reads them; of other inputs sizes are read only
        first = node.inputs[0] if node.inputs else None
        if node.op_type == "Shape" and first is not None and first not in self.known:
            self.known[value] = self._size(node, first)
        elif node.op_type == "Transpose" and first is not None and self._is_own(first):
            # a matrix of the layer can be written as it is read
            self.known[value] = self._weight(first, transposed=True)
        else:
            self._copy_node(node)

    def _size(self, node: onnx_ir.Node, of: onnx_ir.Value) -> onnx_ir.Value:
        """Return a size of past keys and values, which other graphs may not have."""
        axis = node.attributes["start"].as_int() if "start" in node.attributes else 0
        is_vector = of.shape is not None and of.shape.rank() == 1
        return self._past_length if axis or is_vector else self._batch

    def _copy_node(self, node: onnx_ir.Node) -> None:
        copied = onnx_ir.Node(
            node.domain,
            node.op_type,
            [None if value is None else self._input(value) for value in node.inputs],
            list(node.attributes.values()),
            overload=node.overload,
            num_outputs=len(node.outputs),
            name=f"{self._name}.{node.name}",
        )
        for old, new in zip(node.outputs, copied.outputs, strict=True):
            new.name, new.type = f"{self._name}.{old.name}", old.type
            self.known[old] = new
        self._graph.append(copied)

    def _input(self, value: onnx_ir.Value) -> onnx_ir.Value:
        if value.const_value is not None and value not in self.known:
            self.known[value] = self._weight(value, transposed=False)
        return self.known[value]

    def _is_own(self, value: onnx_ir.Value) -> bool:
        """Return whether a value is a weight of the layer."""
        is_weight = value.const_value is not None
        return bool(self._prefix) and is_weight and str(value.name).startswith(self._prefix)

    def _weight(self, value: onnx_ir.Value, *, transposed: bool) -> onnx_ir.Value:
        name = str(value.name).removeprefix(self._prefix)
        raw = self._tensors[name] if self._is_own(value) else _tensor(value)
        tensor = raw.detach().t() if transposed else raw.detach()
        key = tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype
        if key not in self._held:
            self._held[key] = _initializer(f"{self._name}.{name}", tensor)
            self._graph.register_initializer(self._held[key])
        return self._held[key]


def _ancestors(
    values: Sequence[onnx_ir.Value], stops: Container[onnx_ir.Value]
) -> list[onnx_ir.Value]:
    """Return what values are computed from, and themselves, each behind what it needs."""
    ordered: dict[onnx_ir.Value, None] = {}
    pending = [(value, False) for value in values]
    while pending:
        value, is_ready = pending.pop()
        node = value.producer()
        if is_ready or node is None:
            ordered[value] = None
        elif value not in ordered and value not in stops:
            assert not any(
                each.type == onnx_ir.AttributeType.GRAPH for each in node.attributes.values()
            )
            pending.append((value, True))
            pending += [
                (each, False) for each in node.inputs if each is not None and each not in stops
            ]
    return list(ordered)


def _integers_of(value: Any) -> set[int]:
    """Return the integers of a constant."""
    if isinstance(value, int):
        return {value}
    if isinstance(value, tuple | list):
        return {each for each in value if isinstance(each, int)}
    if isinstance(value, onnx_ir.TensorProtocol) and value.dtype.is_integer():
        return set(value.numpy().ravel().tolist())
    return set()


def _input(name: str, axes: Sequence[str | int], dtype: onnx_ir.DataType) -> onnx_ir.Value:
    return onnx_ir.Value(name=name, shape=onnx_ir.Shape(axes), type=onnx_ir.TensorType(dtype))


def _cache_inputs(index: int, cache: CacheShape) -> tuple[onnx_ir.Value, ...]:
    return tuple(
        _input(
            f"past_key_values.{index}.{name}",
            ("batch_size", cache.heads, "past_sequence_length", features),
            _FLOAT,
        )
        for name, features in (("key", cache.key_features), ("value", cache.value_features))
    )


def _sizes(
    graph: onnx_ir.Graph, inputs: Mapping[str, onnx_ir.Value]
) -> tuple[onnx_ir.Value, onnx_ir.Value]:
    """Let a graph compute how many sequences there are, and how much was read of them."""
    axes = {"batch": ("input_ids", 0), "new": ("input_ids", 1), "total": ("attention_mask", 1)}
    nodes = {
        size: onnx_ir.node(
            "Shape", [inputs[name]], {"start": axis, "end": axis + 1}, name=f"sizes.{size}"
        )
        for size, (name, axis) in axes.items()
    }
    operands = [nodes["total"].outputs[0], nodes["new"].outputs[0]]
    past = onnx_ir.node("Sub", operands, name="sizes.past")
    for node in (*nodes.values(), past):
        node.outputs[0].name = node.name
        graph.append(node)
    return nodes["batch"].outputs[0], past.outputs[0]


def _grown(past: onnx_ir.Value) -> onnx_ir.Shape:
    """Return the shape of keys or values once new ones are behind them."""
    assert past.shape is not None
    batch, heads, _, features = past.shape
    return onnx_ir.Shape([batch, heads, "total_sequence_length", features])


def _tensor(constant: onnx_ir.Value) -> Tensor:
    held: Any = constant.const_value
    assert isinstance(held.raw, Tensor), f"{constant.name} comes from no tensor of torch"
    return held.raw


def _initializer(name: str, tensor: Tensor) -> onnx_ir.Value:
    constant = TorchTensor(tensor.float() if tensor.is_floating_point() else tensor, name=name)
    return onnx_ir.Value(
        name=name,
        shape=constant.shape,
        type=onnx_ir.TensorType(constant.dtype),
        const_value=constant,
    )
