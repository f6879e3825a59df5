"""What a component's output must be for a pruned model to follow the dense one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.backbone import LayerCall
from search_spaces.structure.components import Component
from search_spaces.structure.linear import bias, matrix
from search_spaces.structure.model import LayerStructure, ModelStructure
from search_spaces.surgery.slice_and_cut import narrowed

STEADY = 0.02
"""Most by which, at the median token, what a component adds may differ from its projection's
output times a constant, as a share of it and beside rounding."""

Repaired = Callable[[int, Statistics], PrunedWeights]
"""Gives the student's weights of a component that are no slices, from its position and from what
tuning noted of its layer so far."""


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
        """Count tokens in: inputs ``(…, columns)``, targets ``(…, rows)``."""
        x, t = inputs.float().flatten(0, -2), targets.float().flatten(0, -2)
        self.gram += x.T @ x
        self.cross += t.T @ x


_Choice = tuple[int, PrunedWeights]
"""What the student keeps of a component, and its weights that are no slices."""
_Repair = Callable[[int, _Sums], _Choice]
"""Decides that for the attention or the MLP of a layer, 0 or 1, from what was noted."""


@torch.inference_mode()
def collect_tuning(
    structure: ModelStructure,
    orders: Sequence[NDArray[np.int_]],
    kept: Sequence[int],
    windows: Tensor,
    *,
    levels: Repaired = lambda _position, _noted: {},
    batch_tokens: int = 4096,
) -> tuple[Statistics, ...]:
    """Run a pruned model, the student, beside the dense one, and note what tuning fits.

    Both advance layer by layer. In each component the student's hidden states first pass the
    dense component, for the inputs ``x`` of its output projection at full width; the target ``t``
    is what that projection must give for the component to end in the dense model's hidden states,
    its bias not counted. Then the student goes on through its own narrow component.

    That takes a component that adds its projection to the hidden states, at most times a
    constant. Where a layer does not split into its components, and where a norm stands behind the
    projection, ``x`` and ``t`` are the dense projection's own inputs and outputs instead: tuning
    does then what Optimal Brain Surgeon does.

    All hidden states are held at once, twice.

    Args:
        structure: The model, its units sorted already.
        orders: For each component its units from the last to go to the first to go.
        kept: Units that the student keeps, ``(components,)``.
        windows: Token ids ``(windows, tokens)``.
        levels: Repairs the student as it goes, so that what one component makes up for is not
            made up for again above it.
        batch_tokens: Tokens run at once.

    Returns:
        For each layer ``student_gram`` and ``teacher_cross`` of its output projections, columns in
        the model's own order of units, and ``tokens``, in float32.
    """
    backbone = structure.backbone
    pairs = []
    for batch in torch.split(windows, max(1, batch_tokens // windows.shape[1])):
        inputs = backbone.enter(batch.to(backbone.model.device))
        pairs.append(_Pair(inputs.hidden, inputs.hidden, inputs.calls))
    found: list[Statistics] = []
    for index, layer in enumerate(structure.layers):
        tokens = torch.tensor(float(windows.numel()))
        statistics: dict[tuple[StatisticName, str], Tensor] = {("tokens", ""): tokens}

        def repaired(
            offset: int,
            sums: _Sums,
            index: int = index,
            layer: LayerStructure = layer,
            statistics: dict[tuple[StatisticName, str], Tensor] = statistics,
        ) -> _Choice:
            position = structure.spans[index].start + offset
            output = _blocks(layer)[offset].projections[-1]
            back = torch.from_numpy(np.argsort(output.sorted_features(orders[position])))
            back = back.to(sums.gram.device)
            statistics["student_gram", output.path] = sums.gram[back][:, back] / windows.numel()
            statistics["teacher_cross", output.path] = sums.cross[:, back] / windows.numel()
            return int(kept[position]), levels(position, statistics)

        advance = _advance_apart if layer.splits else _advance_whole
        advance(structure, index, repaired, pairs)
        found.append(statistics)
    return tuple(found)


def _advance_apart(
    structure: ModelStructure, index: int, repaired: _Repair, pairs: Sequence[_Pair]
) -> None:
    """Send both models through the components of a layer, one after the other."""
    backbone, components = structure.backbone, _blocks(structure.layers[index])
    with backbone.resident(index) as layer:
        for offset, (component, other) in enumerate(
            zip(components, components[::-1], strict=True)
        ):
            alone = narrowed(layer, [(other, 0)])
            linear = layer.get_submodule(component.projections[-1].path)
            noted, factor = _Sums.at(linear), None
            for pair in pairs:
                call = pair.calls[index]
                with _watched(linear) as seen:
                    ended = backbone.run_layer(alone, pair.student, call)
                with _watched(linear) as own:
                    pair.dense = backbone.run_layer(alone, pair.dense, call)
                if factor is None:
                    factor = _factor(pair.student, ended, seen.output)
                if factor:
                    missing = (pair.dense.float() - pair.student.float()) / factor
                    noted.add(seen.inputs, missing - _offset(linear))
                else:
                    noted.add(own.inputs, own.output - _offset(linear))
            count, level = repaired(offset, noted)
            narrow = narrowed(layer, [(component, count), (other, 0)], level)
            for pair in pairs if count else ():
                pair.student = backbone.run_layer(narrow, pair.student, pair.calls[index])


def _advance_whole(
    structure: ModelStructure, index: int, repaired: _Repair, pairs: Sequence[_Pair]
) -> None:
    """Send both models through a layer at once, and note what the dense one does there."""
    backbone, components = structure.backbone, _blocks(structure.layers[index])
    with backbone.resident(index) as layer:
        linears = [layer.get_submodule(component.projections[-1].path) for component in components]
        sums = [_Sums.at(linear) for linear in linears]
        for pair in pairs:
            with ExitStack() as stack:
                watched = [stack.enter_context(_watched(linear)) for linear in linears]
                pair.dense = backbone.run_layer(layer, pair.dense, pair.calls[index])
            for linear, noted, seen in zip(linears, sums, watched, strict=True):
                noted.add(seen.inputs, seen.output - _offset(linear))
        student = [repaired(offset, noted) for offset, noted in enumerate(sums)]
        choices = [
            (component, count) for component, (count, _) in zip(components, student, strict=True)
        ]
        narrow = narrowed(layer, choices, {**student[0][1], **student[1][1]})
        for pair in pairs:
            pair.student = backbone.run_layer(narrow, pair.student, pair.calls[index])


def _blocks(layer: LayerStructure) -> tuple[Component, Component]:
    return layer.attention, layer.mlp


def _offset(linear: nn.Module) -> Tensor | float:
    found = bias(linear)
    return 0.0 if found is None else found.float()


def _factor(before: Tensor, after: Tensor, output: Tensor) -> float:
    """Give what a projection's output is multiplied by before it is added; 0: nothing fixed.

    Args:
        before: Hidden states that enter the component, ``(batch, tokens, hidden)``.
        after: Those that leave it.
        output: Of its projection, in the same shape.
    """
    added = after.float() - before.float()
    both, square = (added * output).sum(dim=-1), output.square().sum(dim=-1)  # (batch, tokens)
    factor = float((both / square).median())
    gaps = (added - factor * output).norm(dim=-1)
    # rounding beside large hidden states hides some of what is added to them
    allowed = STEADY * added.norm(dim=-1) + torch.finfo(after.dtype).eps * after.norm(dim=-1)
    return factor if float((gaps <= allowed).float().mean()) > 0.5 else 0.0


@dataclass
class _Seen:
    """The last call of a linear layer."""

    inputs: Tensor = field(default_factory=lambda: torch.empty(0))
    """``(batch, tokens, columns)``"""
    output: Tensor = field(default_factory=lambda: torch.empty(0))
    """``(batch, tokens, rows)`` in float32."""


@contextmanager
def _watched(linear: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()

    def note(_module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        seen.inputs, seen.output = args[0], output.float()

    with linear.register_forward_hook(note):
        yield seen
