"""Calibration statistics, from which importances, sparsifiers and compensations are computed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import DataError

StatisticName = Literal[
    "tokens",
    "input_mean",
    "input_magnitude",
    "input_second_moment",
    "gram",
    "gradient",
    "gradient_second_moment",
    "gate_fisher",
    "hidden_energy",
    "component_output",
    "similarity",
    "angle",
    "removal_nll",
    "student_gram",
    "teacher_cross",
    "expert_frequency",
    "expert_weight",
    "expert_first",
    "expert_confidence",
    "expert_selection",
    "expert_output",
    "expert_input_energy",
    "expert_channel_energy",
    "expert_reconstruction",
    "expert_acceptance",
    "routing_gram",
]
"""Of each projection, under its path; ``x`` are its inputs ``(tokens, columns)``:

- ``input_mean``, ``input_magnitude``, ``input_second_moment``: means over the tokens of ``x``,
  ``|x|`` and ``x²``, ``(columns,)``
- ``gram``: mean over the tokens of ``x xᵀ``, ``(columns, columns)``
- ``gradient``, ``gradient_second_moment``: mean over the windows of the derivative of a window's
  NLL (nats a token) by the weight, and of its square, ``(rows, columns)``

Of each output projection, where a pruned model, the student, runs next to the dense one; ``x`` are
the inputs of the dense component's output projection where the student's hidden states enter the
component, ``t`` the output that would take the student to the dense model's hidden states:

- ``student_gram``: mean over the tokens of ``x xᵀ``, ``(columns, columns)``
- ``teacher_cross``: mean over the tokens of ``t xᵀ``, ``(rows, columns)``

Of each component, under the path of its last projection:

- ``gate_fisher``: mean over the windows of the squared derivative of a window's NLL by a gate on
  each unit, ``(units,)``

Of each layer, under the empty path:

- ``tokens``: their number, ``()``
- ``hidden_energy``: median over the tokens of the squared norm of the hidden states that enter the
  layer, ``()``

Of each layer under the empty path, and of its components under ``attention`` and ``mlp``, over the
hidden states that enter and leave:

- ``similarity``: mean over the tokens of their cosine, ``()``
- ``angle``: mean over the tokens of the angle between them over π, ``()``
- ``removal_nll``: rise of NLL (nats a token) where it is removed alone, ``()``

Of the components under ``attention`` and ``mlp``:

- ``component_output``: what it adds to the hidden states, at tokens evenly spread over each window
  behind its first few, whose hidden states are unlike all others, ``(tokens, hidden)``, in
  bfloat16

Of each mixture of experts, under the path of the module that holds the experts; ``g`` is the
weight that the router gives an expert for a token, 0 where it does not choose it, and all means
are over all tokens:

- ``expert_frequency``: share of the tokens for which it is chosen, ``(experts,)``
- ``expert_weight``: mean of ``g``, ``(experts,)``
- ``expert_first``: share of the tokens for which it has the largest ``g``, and of equal ones the
  largest logit, ``(experts,)``
- ``expert_confidence``: mean of ``g`` over the tokens for which it is the first, 0 where it never
  is, ``(experts,)``
- ``expert_selection``: mean of the router's logit less the token's least one, where the expert is
  chosen and has at least an even share of the softmax over the chosen ones, else 0, ``(experts,)``
- ``expert_output``: mean over the tokens for which it is chosen of ``g`` times the norm of its
  output, 0 where it never is, ``(experts,)``
- ``expert_input_energy``: mean of ``(g x)²`` for its inputs ``x``, ``(experts, hidden)``
- ``expert_channel_energy``: mean of ``(g a)²`` for its channels ``a``, ``(experts, channels)``
- ``expert_reconstruction``: squared error of the mixture's output once the expert is pruned in its
  turn, rising from turn to turn, ``(experts,)``
- ``expert_acceptance``: share of the tokens drafted by the model without it alone that the dense
  model does not accept, ``(experts,)``
- ``routing_gram``: mean of ``l lᵀ`` for the router's logits ``l``, ``(experts, experts)``
"""

Statistics = Mapping[tuple[StatisticName, str], Tensor]
"""Of one layer, by name and path, in float32 where nothing else is said."""


class LayerStatistics:
    """The statistics of all layers, measured when they are first asked for.

    Args:
        measure: Reads or measures those of all layers; called at most once.
    """

    def __init__(self, measure: Callable[[], Sequence[Statistics]]) -> None:
        self._measure = measure
        self._measured: Sequence[Statistics] | None = None

    @classmethod
    def measured(cls, statistics: Sequence[Statistics]) -> Self:
        """Return statistics that are there already."""
        return cls(lambda: statistics)

    def of(self, layer: int) -> Statistics:
        """Return those of a layer; may run the model, which must not be in use then."""
        return self.of_all()[layer]

    def of_all(self) -> Sequence[Statistics]:
        """Return those of each layer; may run the model, which must not be in use then."""
        if self._measured is None:
            self._measured = self._measure()
        return self._measured


_Axis = Literal["rows", "columns", "experts", "channels"]
_AXES: Mapping[StatisticName, tuple[_Axis, ...]] = {
    "input_mean": ("columns",),
    "input_magnitude": ("columns",),
    "input_second_moment": ("columns",),
    "gram": ("columns", "columns"),
    "gradient": ("rows", "columns"),
    "gradient_second_moment": ("rows", "columns"),
    "student_gram": ("columns", "columns"),
    "teacher_cross": ("rows", "columns"),
    "expert_frequency": ("experts",),
    "expert_weight": ("experts",),
    "expert_first": ("experts",),
    "expert_confidence": ("experts",),
    "expert_selection": ("experts",),
    "expert_output": ("experts",),
    "expert_input_energy": ("experts", "columns"),
    "expert_channel_energy": ("experts", "channels"),
    "expert_reconstruction": ("experts",),
    "expert_acceptance": ("experts",),
    "routing_gram": ("experts", "experts"),
}
"""What each axis of a statistic of a matrix, or of a mixture of experts, runs over."""


@dataclass(frozen=True, kw_only=True)
class MatrixStatistics:
    """Statistics of one matrix ``(rows, columns)``, in the order of its features.

    Or of a mixture of experts, in the order of the experts.
    """

    tokens: int
    """Over which they were taken."""
    values: Mapping[StatisticName, Tensor]

    @classmethod
    def of(cls, statistics: Statistics, path: str) -> Self:
        """Return the statistics of the projection or mixture at a path, as far as collected."""
        return cls(
            tokens=int(statistics["tokens", ""]),
            # the others may lie in a file, and are not read
            values={name: statistics[name, at] for name, at in statistics if at == path},
        )

    def to(self, device: torch.device) -> "MatrixStatistics":
        """Return the same on a device."""
        values = {name: value.to(device) for name, value in self.values.items()}
        return MatrixStatistics(tokens=self.tokens, values=values)

    def __getitem__(self, name: StatisticName) -> Tensor:
        return self.values[name]

    def picked(
        self,
        *,
        rows: NDArray[np.int_] | None = None,
        columns: NDArray[np.int_] | None = None,
        experts: NDArray[np.int_] | None = None,
        channels: NDArray[np.int_] | None = None,
    ) -> "MatrixStatistics":
        """Return the statistics of a matrix or mixture with some of the features, in that order.

        Args:
            rows: Positions of the rows; None: all.
            columns: Positions of the columns; None: all.
            experts: Positions of the experts; None: all.
            channels: Positions of the channels of every expert; None: all.
        """
        positions_of = {"rows": rows, "columns": columns, "experts": experts, "channels": channels}
        values = {}
        for name, value in self.values.items():
            for axis, side in enumerate(_AXES.get(name, ())):
                positions = positions_of[side]
                if positions is not None:
                    index = torch.from_numpy(np.ascontiguousarray(positions)).to(value.device)
                    value = value.index_select(axis, index)  # noqa: PLW2901
            values[name] = value
        return MatrixStatistics(tokens=self.tokens, values=values)


def check_tokens(tokens: int, columns: int, method: str) -> None:
    """Refuse statistics of so few tokens that a matrix of second moments is meaningless.

    Raises:
        DataError: If there are fewer tokens than a quarter of the columns.
    """
    if tokens * 4 < columns:
        raise DataError(
            f"{method} of {columns} inputs needs at least {-(-columns // 4)} tokens of "
            f"calibration text, got {tokens}; raise `--calibration_windows`, give longer "
            "`--data`, or choose a method that needs no second moments"
        )
