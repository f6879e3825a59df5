"""Refitting a plan: its output projections are solved again, each on what the plan itself reads.

The walk begins at the first changed layer. Every output projection of an attention and an MLP, and
every last matrix of an expert, is solved by ridge regression from the weights that it has, towards
what the dense model adds there and half of the error that the hidden states carry by then.

References:
    Park, Choi & Kang, 2024, "Accurate Retraining-free Pruning for Pretrained Encoder-based
    Language Models" (knowledge-preserving tuning of sub-layers, on the pruned model's inputs).
    Different here: decoders, a ridge towards the weights as they are, half of the carried error.
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from evaluators.scoring.prefix_tree import Step
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
        text: To fit to.
        progress: Told of each layer.

    Yields:
        Number of a layer, and the tensors of its cut layer that changed, by their paths in it.
    """
    side = SideBySide.of(plan, text.fitted)
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
    dense, student = side.alone(dense_layer, step), side.alone(layer, step)
    changed = dict[str, Tensor]()
    for fits in fits_of(side.plan, step, layer):
        factors = [_factor(side, fit, layer) for fit in fits]
        for pair in side.pairs:
            _add(side, pair, (dense, student), list(zip(fits, factors, strict=True)))
        for fit in fits:
            changed |= fit.solve_(layer)
    for pair in side.pairs:
        pair.dense, pair.student = (
            side.run(dense, pair.dense, pair, step.layer),
            side.run(student, pair.student, pair, step.layer),
        )
    return changed


def _add(
    side: SideBySide,
    pair: Pair,
    models: tuple[nn.Module, nn.Module],
    fits: list[tuple[Fit, float]],
) -> None:
    """Add a batch to the sums of what ends a step."""
    dense, student = models
    index = fits[0][0].component.layer
    with ExitStack() as stack:
        for fit, factor in fits:
            if not factor:
                stack.enter_context(fit.watching_dense(dense))
        dense_after = side.run(dense, pair.dense, pair, index)
    with ExitStack() as stack:
        for fit, _ in fits:
            stack.enter_context(fit.watching(student))
        after = side.run(student, pair.student, pair, index)
    missing = asked(pair, dense_after) - (after.float() - pair.student.float())
    for fit, factor in fits:
        # where a norm follows it, an output is only compared with the dense model's own
        fit.add(missing / (factor * len(fits)) if factor else fit.difference)


def _factor(side: SideBySide, fit: Fit, layer: nn.Module) -> float:
    """Return the constant by which a fit's output reaches the hidden states; 0: there is none."""
    structure = side.plan.prepared.sorted_model.structure
    if not structure.layers[fit.component.layer].splits:
        return 0.0
    pair = side.pairs[0]
    position = structure.components.index(fit.component)
    alone = side.alone(layer, Step(fit.component.layer, position, position + 1))
    with fit.watching(alone):
        after = side.run(alone, pair.student, pair, fit.component.layer)
    return constant_factor(pair.student, after, fit.output.reshape(after.shape))
