"""A tiny model, and a worse copy of it to be healed."""

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from planner.recovery.healing.distillation import Distillation, Teacher
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.learning_rate import Limits
from planner.recovery.healing.training import Training
from search_spaces.progress import NO_PROGRESS
from search_spaces.structure.backbone import Backbone
from tests.models.tiny import llama, windows

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = 2
TEXT = windows(32, 12, seed=1)
FRESH = windows(4, 12, seed=2)


def worse(teacher: Backbone, noise: float = 0.05) -> Backbone:
    """A copy with noise on the matrices of its layers."""
    model = copy.deepcopy(teacher.model)
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if ".layers." in name and weight.ndim > 1:
            weight.data += noise * torch.randn(weight.shape, generator=generator)
    return Backbone(model)


class Pupil:
    """A worse copy, in training."""

    passes = 1

    def __init__(self, student: Backbone, parameters: dict[str, nn.Parameter]) -> None:
        self.student, self.parameters = student, parameters
        self.distillation = Distillation(Teacher(llama().backbone))
        self.on_step: Callable[[int], None] = lambda _: None

    def backward(self, step: int, tokens: Tensor) -> float:
        self.on_step(step)
        return self.distillation.backward(self.student, tokens)

    def look(self) -> NDArray[np.float64]:
        return self.distillation.by_window(self.student, FRESH)


def read(position: int) -> Tensor:
    """The text over and over."""
    return TEXT[[(position + each) % len(TEXT) for each in range(BATCH)]]


def training(folder: Path, *, tokens: int = 1200, rate: float = 1e-3) -> Training:
    """A training that leaves its states in a folder."""
    return Training(
        limits=Limits(tokens=tokens),
        highest_rate=rate,
        read=read,
        checkpoint=CheckpointFile(folder / "healing.safetensors", {"seed": 0}),
        progress=NO_PROGRESS,
    )
