"""Refitting a plan: its output projections are solved again, each on what the plan itself reads.

The walk begins at the first changed layer. Every output projection of an attention and an MLP, and
every last matrix of an expert, is solved by ridge regression from the weights that it has, towards
the hidden states that the dense model has there: what a part cannot express is left to the next.

References:
    Park, Choi & Kang, 2024, "Accurate Retraining-free Pruning for Pretrained Encoder-based
    Language Models" (knowledge-preserving tuning of sub-layers, on the pruned model's inputs).
    Different here: decoders, and a ridge towards the weights as they are.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evaluators.scoring.steps import Step
from planner.recovery.cut_plan import CutPlan
from planner.recovery.fitting_text import Changes, FittingText
from planner.recovery.matrix_fits import Fit, fits_of
from planner.recovery.side_by_side import Pair, SideBySide, asked
from search_spaces.progress import Progress
from search_spaces.structure.residual import constant_factor


@torch.no_grad()
def refit(plan: CutPlan, text: FittingText, progress: Progress) -> Changes:
    """Solve the output projections of a plan again, layer by layer.

    One layer of either model is in memory at a time, and all hidden states of both.

    Args:
        plan: It stays as it is.
        text: To fit to, and to choose by how far.
        progress: Told of each layer.

    Yields:
        Number of a layer, and the tensors of its cut layer that changed, by their paths in it.
    """
    side = SideBySide.of(plan, text.fitted)
    side.pairs.extend(SideBySide.of(plan, text.apart, is_apart=True).pairs)
    backbone = plan.prepared.sorted_model.structure.backbone
    first, count = min(plan.changed_layers(), default=len(backbone.layers)), len(backbone.layers)
    for index in range(count):
        if index < first:
            side.skip(index)
        else:
            layer, changed = plan.layer(index), dict[str, Tensor]()
            with backbone.resident(index) as dense:
                for step in side.steps_of(index):
                    changed |= _refit_step(side, step, dense, layer)
            yield index, changed
        progress.advance(index + 1, count)


def _refit_step(
    side: SideBySide, step: Step, dense_layer: nn.Module, layer: nn.Module
) -> dict[str, Tensor]:
    """Solve what ends a step again, in place, and let both models through it."""
    models = side.alone(dense_layer, step), side.alone(layer, step)
    changed, runs, fits = dict[str, Tensor](), list[_Run](), list[Fit]()
    for fits in fits_of(side.plan, step, layer):
        for fit in fits:
            fit.factor = _factor_beside_others(side, step, fit, layer)
        runs = [_fitted(side, step, pair, models, fits) for pair in side.pairs]
        for fit in fits:
            changed |= fit.solve_(layer)
    for place, pair in enumerate(side.pairs):
        run = runs[place] if runs else _Run(side.run(models[0], pair.dense, pair, step.layer))
        moved = [fit.moved(place) for fit in fits]
        if run.student is not None and all(shift is not None for shift in moved):
            shifted = sum((shift for shift in moved if shift is not None), run.student.float())
            student = shifted.to(run.student.dtype)
        else:
            student = side.run(models[1], pair.student, pair, step.layer)
        pair.dense, pair.student = run.dense, student
    return changed


@dataclass(frozen=True)
class _Run:
    """Hidden states of one batch after a step."""

    dense: Tensor
    student: Tensor | None = None
    """With the weights that it had before they were solved."""


def _fitted(
    side: SideBySide,
    step: Step,
    pair: Pair,
    models: tuple[nn.Module, nn.Module],
    fits: list[Fit],
) -> _Run:
    """Add a batch to the sums of what ends a step."""
    dense, student = models
    with ExitStack() as stack:
        for fit in fits:
            stack.enter_context(fit.watching_dense(dense))
        dense_after = side.run(dense, pair.dense, pair, step.layer)
    with ExitStack() as stack:
        for fit in fits:
            stack.enter_context(fit.watching(student))
        after = side.run(student, pair.student, pair, step.layer)
    missing = asked(pair, dense_after) - (after.float() - pair.student.float())
    for fit in fits:
        if fit.factor is None:
            output = fit.output.reshape(after.shape)
            fit.factor = constant_factor(pair.student, after, output)
        # where a norm follows it, an output is only compared with the dense model's own
        share = fit.factor * len(fits)
        fit.add(missing / share if share else fit.difference, is_apart=pair.is_apart)
    return _Run(dense_after, after)


def _factor_beside_others(
    side: SideBySide, step: Step, fit: Fit, layer: nn.Module
) -> float | None:
    """Return what `Fit.factor` is where a step has several components; None: it has one.

    What one adds cannot be told from what the others add, so that it runs alone.
    """
    structure = side.plan.prepared.sorted_model.structure
    if not structure.layers[step.layer].splits:
        return 0.0
    if len(side.components(step)) == 1:
        return None
    pair, position = side.pairs[0], structure.components.index(fit.component)
    alone = side.alone(layer, Step(step.layer, position, position + 1))
    with fit.watching(alone):
        after = side.run(alone, pair.student, pair, step.layer)
    return constant_factor(pair.student, after, fit.output.reshape(after.shape))
