"""A small model in training: what of it is trained, by whom it is taught, on which text."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from evaluators.runtime.allocator import keep_pages
from planner.recovery.healing.curve import LearningCurve
from planner.recovery.healing.distillation import (
    Distillation,
    Teacher,
    check_differentiable,
)
from planner.recovery.healing.heal_text import HealText
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.learning_rate import Limits
from planner.recovery.healing.trained_part import TrainedPart, trained_part
from planner.recovery.healing.training import Trainee, Training
from planner.settings.heal import HealSettings
from search_spaces.errors import ModelError
from search_spaces.models.layer_stack import find_stack
from search_spaces.progress import Progress
from search_spaces.structure.backbone import Backbone

_LOOKED_AT = 8
"""Windows that are measured together, though steps may take fewer."""


@dataclass(frozen=True, kw_only=True)
class Pupil:
    """One small model, taught by the dense one."""

    student: Backbone
    part: TrainedPart
    distillation: Distillation
    fresh: Tensor
    """Windows of fresh text ``(windows, tokens)``, by which its best weights are chosen."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        return self.part.parameters

    passes = 1

    def backward(self, step: int, tokens: Tensor) -> float:  # noqa: ARG002
        return self.distillation.backward(self.student, tokens)

    def look(self) -> NDArray[np.float64]:
        return self.distillation.by_window(self.student, self.fresh)


def enrol(
    model: PreTrainedModel,
    teacher: Backbone,
    fresh: Tensor,
    settings: HealSettings,
    *,
    fixed: Collection[str] = (),
) -> Pupil:
    """Prepare a small model to be trained.

    Args:
        model: Changed in place.
        teacher: The dense model, on the same device.
        fresh: Windows of fresh text ``(windows, tokens)``.
        settings: What is trained, and how.
        fixed: Names of weights that must stay as they are.

    Raises:
        ModelError: If it cannot be differentiated.
    """
    if teacher.streamed:
        raise ModelError(
            "healing needs the whole model in memory, and this one is read from disk layer by "
            "layer; recover it in closed form, `planner recover`, or heal on a larger machine"
        )
    keep_pages()
    student = Backbone(model)  # while all of it is in one dtype
    dtype = teacher.model.dtype
    part = trained_part(model, settings, dtype=dtype, fixed=fixed)
    if settings.gradient_checkpointing:
        _recompute_layers_(model)
    distillation = distillation_of(teacher, settings)
    check_differentiable(distillation, student, fresh, list(part.parameters))
    return Pupil(student=student, part=part, distillation=distillation, fresh=fresh)


def distillation_of(teacher: Backbone, settings: HealSettings) -> Distillation:
    """Return how students of a teacher are taught."""
    return Distillation(
        Teacher(teacher),
        reverse=settings.reverse,
        dtype=teacher.model.dtype,
        windows_at_once=max(_LOOKED_AT, settings.windows),
    )


def train(
    trainee: Trainee,
    text: HealText,
    settings: HealSettings,
    checkpoint_file: CheckpointFile,
    progress: Progress,
) -> LearningCurve:
    """Train on some text, and leave the best weights in the trainee; see `Training.run`.

    Raises:
        DataError: If the text is too short.
    """
    text.check(settings.windows)
    progress.stage(f"healing: training {settings.train} on {text.name}")
    training = Training(
        limits=Limits(minutes=settings.minutes, tokens=settings.tokens),
        highest_rate=settings.highest_rate,
        read=lambda position: text.read(position, settings.windows),
        checkpoint=checkpoint_file,
        progress=progress,
    )
    return training.run(trainee)


def _recompute_layers_(model: PreTrainedModel) -> None:
    """Let each layer keep its inputs alone for the backward pass."""

    def recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False, **kwargs)

    for layer in find_stack(model).layers.values():
        layer.forward = recomputed(layer.forward)


def by_layer(
    model: PreTrainedModel, weights: Mapping[str, Tensor]
) -> dict[int, dict[str, Tensor]]:
    """Return tensors of a model's layers by the number of the layer and their path inside it."""
    stack = find_stack(model)
    paths = list(stack.layers)
    found: dict[int, dict[str, Tensor]] = {}
    for name, tensor in weights.items():
        index = stack.layer_of(name)
        assert index is not None, f"{name} is of no layer"
        found.setdefault(index, {})[name.removeprefix(f"{paths[index]}.")] = tensor
    return found
