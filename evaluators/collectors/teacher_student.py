"""Targets of a pruned model's output projections, for it to follow the dense model."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.backbone import LayerCall
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import LayerStructure, ModelStructure
from search_spaces.structure.residual import constant_factor
from search_spaces.surgery.slice_and_cut import narrowed

StudentWeights = Callable[[int, Statistics], PrunedWeights]
"""Returns the student's pruned weights of a component, from its position and from the statistics
of its layer so far."""


@dataclass
class _Pair:
    """One batch in two models."""

    dense: Tensor
    """Hidden states of the dense model, ``(batch, tokens, hidden)``."""
    student: Tensor
    """Hidden states of the pruned one."""
    calls: Sequence[LayerCall]


@dataclass
class _Sums:
    """Sums over tokens at one output projection."""

    gram: Tensor
    """``x xᵀ``, ``(columns, columns)``"""
    cross: Tensor
    """``t xᵀ``, ``(rows, columns)``"""

    @classmethod
    def at(cls, linear: nn.Module) -> "_Sums":
        rows, columns = matrix(linear).shape
        empty = matrix(linear).new_zeros(0, dtype=torch.float32)
        return cls(empty.new_zeros(columns, columns), empty.new_zeros(rows, columns))

    def add(self, inputs: Tensor, targets: Tensor) -> None:
        """Add tokens: inputs ``(…, columns)``, targets ``(…, rows)``."""
        x, t = inputs.float().flatten(0, -2), targets.float().flatten(0, -2)
        self.gram += x.T @ x
        self.cross += t.T @ x


_Choice = tuple[int, PrunedWeights]
"""Units that the student keeps of a component, and its pruned weights."""
_Choose = Callable[[int, _Sums], _Choice]
"""Returns the choice for a component of a layer, by its place there, from its sums."""


@torch.inference_mode()
def collect_tuning(
    sorted_model: SortedModel,
    kept: Sequence[int],
    windows: Tensor,
    *,
    student_weights: StudentWeights = lambda _position, _statistics: {},
    batch_tokens: int = 4096,
) -> tuple[Statistics, ...]:
    """Run a pruned model, the student, next to the dense one, and collect what tuning fits.

    Both advance layer by layer. In each component the student's hidden states first pass the
    dense component, for the inputs ``x`` of its output projection at full width; the target ``t``
    is the output of that projection, without bias, from which the component would end in the dense
    model's hidden states. Then the student goes on through its own narrow component.

    That requires a component that adds its projection to the hidden states, at most times a
    constant. If a layer does not split into its components, or a norm follows the projection,
    ``x`` and ``t`` are the dense projection's own inputs and outputs instead: tuning then does
    what Optimal Brain Surgeon does.

    All hidden states are held at once, twice.

    Args:
        sorted_model: The model.
        kept: Units that the student keeps, ``(components,)``.
        windows: Token ids ``(windows, tokens)``.
        student_weights: Compensates the student on the way, so that an error that one component
            compensates is not compensated again above it.
        batch_tokens: Tokens run at once.

    Returns:
        For each layer ``student_gram`` and ``teacher_cross`` of its output projections, columns in
        the model's own order of units, and ``tokens``, in float32.
    """
    structure, orders = sorted_model.structure, sorted_model.orders
    backbone = structure.backbone
    pairs = []
    for batch in torch.split(windows, max(1, batch_tokens // windows.shape[1])):
        inputs = backbone.enter(batch.to(backbone.model.device))
        pairs.append(_Pair(inputs.hidden, inputs.hidden, inputs.calls))
    by_layer: list[Statistics] = []
    for index, layer in enumerate(structure.layers):
        tokens = torch.tensor(float(windows.numel()))
        statistics: dict[tuple[StatisticName, str], Tensor] = {("tokens", ""): tokens}

        def choose(
            offset: int,
            sums: _Sums,
            index: int = index,
            layer: LayerStructure = layer,
            statistics: dict[tuple[StatisticName, str], Tensor] = statistics,
        ) -> _Choice:
            position = structure.spans[index].start + offset
            output = layer.components[offset].projections[-1]
            # from the sorted model's order of features back to the model's own
            unsorted = torch.from_numpy(np.argsort(output.sorted_features(orders[position])))
            unsorted = unsorted.to(sums.gram.device)
            gram, cross = sums.gram[unsorted][:, unsorted], sums.cross[:, unsorted]
            statistics["student_gram", output.path] = gram / windows.numel()
            statistics["teacher_cross", output.path] = cross / windows.numel()
            return int(kept[position]), student_weights(position, statistics)

        advance = _advance_apart if layer.splits else _advance_whole
        advance(structure, index, choose, pairs)
        by_layer.append(statistics)
    return tuple(by_layer)


def _advance_apart(
    structure: ModelStructure, index: int, choose: _Choose, pairs: Sequence[_Pair]
) -> None:
    """Run both models through the components of a layer, one after the other."""
    backbone, components = structure.backbone, structure.layers[index].components
    with backbone.resident(index) as layer:
        for offset, component in enumerate(components):
            others = [(other, 0) for other in components if other is not component]
            alone = narrowed(layer, others)
            linear = layer.get_submodule(component.projections[-1].path)
            sums, factor = _Sums.at(linear), None
            for pair in pairs:
                call = pair.calls[index]
                with _watched(linear) as student_call:
                    leaving = backbone.run_layer(alone, pair.student, call)
                with _watched(linear) as dense_call:
                    pair.dense = backbone.run_layer(alone, pair.dense, call)
                if factor is None:
                    factor = constant_factor(pair.student, leaving, student_call.output)
                if factor:
                    missing = (pair.dense.float() - pair.student.float()) / factor
                    sums.add(student_call.inputs, missing - _offset(linear))
                else:
                    sums.add(dense_call.inputs, dense_call.output - _offset(linear))
            count, weights = choose(offset, sums)
            narrow = narrowed(layer, [(component, count), *others], weights)
            for pair in pairs if count else ():
                pair.student = backbone.run_layer(narrow, pair.student, pair.calls[index])


def _advance_whole(
    structure: ModelStructure, index: int, choose: _Choose, pairs: Sequence[_Pair]
) -> None:
    """Run both models through a layer as a whole, and sum the dense one's inputs and outputs."""
    backbone, components = structure.backbone, structure.layers[index].components
    with backbone.resident(index) as layer:
        linears = [layer.get_submodule(component.projections[-1].path) for component in components]
        all_sums = [_Sums.at(linear) for linear in linears]
        for pair in pairs:
            with ExitStack() as stack:
                watched = [stack.enter_context(_watched(linear)) for linear in linears]
                pair.dense = backbone.run_layer(layer, pair.dense, pair.calls[index])
            for linear, sums, dense_call in zip(linears, all_sums, watched, strict=True):
                sums.add(dense_call.inputs, dense_call.output - _offset(linear))
        student = [choose(offset, sums) for offset, sums in enumerate(all_sums)]
        choices = [
            (component, count) for component, (count, _) in zip(components, student, strict=True)
        ]
        weights = {path: made for _, of_one in student for path, made in of_one.items()}
        narrow = narrowed(layer, choices, weights)
        for pair in pairs:
            pair.student = backbone.run_layer(narrow, pair.student, pair.calls[index])


def _offset(linear: nn.Module) -> Tensor | float:
    offset = bias(linear)
    return 0.0 if offset is None else offset.float()


@dataclass
class _LinearCall:
    """The last call of a linear layer."""

    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    """``(batch, tokens, columns)``"""
    output: Tensor = field(default_factory=lambda: torch.empty(0))
    """``(batch, tokens, rows)`` in float32."""


@contextmanager
def _watched(linear: nn.Module) -> Iterator[_LinearCall]:
    call = _LinearCall()

    def note(_module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        call.inputs, call.output = args[0], output.float()

    with linear.register_forward_hook(note):
        yield call
