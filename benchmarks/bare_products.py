"""What candidates take, over the matrix products that nothing can spare them."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import linear

from benchmarks.report import Goal, Row
from benchmarks.smollm2 import CHILDREN_EACH, Text, offspring
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.preparation.prepared_model import PreparedModel
from search_spaces.structure.linear import SlicedLinear, is_linear, matrix

TEXT = Text(windows=4, tokens=96)
"""The first rung of a small search."""
_MOST = 2.0

NOTES = f"""
**Bare products.** Some candidates, one child of each parent, are scored one by one on
{TEXT.windows} windows of {TEXT.tokens} tokens: *s* a candidate, medians. *product* is what their
matrices take, multiplied with as many rows, each matrix by itself and in one piece, the
head's too: no norm, no attention, no activation, no divergence. Both sides are in turns, in one
format.
"""


@torch.inference_mode()
def compared(prepared: PreparedModel, repeats: int) -> tuple[Row, Goal]:
    """Return the line, and the goal.

    Args:
        prepared: The model, with as much text as `TEXT`.
        repeats: Of both sides.
    """
    configurations = prepared.space.configurations(offspring(prepared))[::CHILDREN_EACH]
    windows = prepared.calibration.search
    judge = Evaluator(prepared.sorted_model, windows, Fidelity(state_bytes=0))
    seconds = [
        _seconds(
            [
                partial(_scored, judge, configuration[None]),
                partial(_multiplied, list(_matrices(prepared, configuration)), windows.numel()),
            ],
            repeats,
        )
        for configuration in configurations
    ]
    ours, bare = np.array(seconds).mean(axis=0)
    row: Row = {
        "candidates": len(configurations),
        "rows": windows.numel(),
        "s": float(ours),
        "s, product": float(bare),
        "of product": float(ours / bare),
    }
    goal = Goal(
        figure="of its bare products a candidate takes",
        value=float(row["of product"]),
        limit=_MOST,
        at_least=False,
    )
    return row, goal


def _matrices(prepared: PreparedModel, configuration: NDArray[np.int_]) -> Iterator[Tensor]:
    """Yield all matrices that a candidate multiplies by, each in memory of its own."""
    structure = prepared.sorted_model.structure
    for index, span in enumerate(structure.spans):
        layer = prepared.layer_builder.layer(index, configuration[span])
        for module in layer.modules():
            if isinstance(module, SlicedLinear):
                yield torch.cat([weight for weight, _ in module.pieces])
            elif is_linear(module):
                yield matrix(module).clone()
    head = structure.backbone.linear_head
    assert head is not None, "the model reads out by a product"
    yield head.weight


def _scored(judge: Evaluator, configurations: NDArray[np.int_]) -> None:
    for _ in judge.score(configurations):
        pass


def _multiplied(matrices: Sequence[Tensor], rows: int) -> None:
    drawn: dict[int, Tensor] = {}
    for each in matrices:
        width = each.shape[1]
        if width not in drawn:
            drawn[width] = torch.ones(rows, width, dtype=each.dtype)
        linear(drawn[width], each)


def _seconds(sides: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median seconds of each side, which take turns."""
    taken: list[list[float]] = [[] for _ in sides]
    for turn in range(repeats + 1):
        for side, found in zip(sides, taken, strict=True):
            started = time.perf_counter()
            side()
            if turn:  # the first one warms up
                found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in taken]
