"""SmolLM2-135M as a model of full precision: its weights off the grid of the file they came in.

The file holds 4 bits a weight. Formats that are measured on such weights mean nothing: those that
hold its grid lose nothing, and finer ones that miss it do. So each weight is moved at random
within its step, which costs the model a third of a nat, and the moved model is then healed toward
the one of the file. What comes of it is a model of its own, which benchmarks take for the dense
one; it is made once, by ``make full-precision``.
"""

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.contest import text_options
from benchmarks.report import RESULTS
from evaluators.data.text_samples import TextSource, Vocabulary, searched_text
from planner.cli.commands.demo_command import demo_model
from planner.cli.terminal import Terminal
from planner.recovery.healing.curve import LearningCurve
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.pupil import enrol, train
from planner.recovery.healing.run_text import text_to_heal
from planner.settings.heal import HealSettings
from search_spaces.atomic_files import publish, scratch_beside
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.progress import Progress
from search_spaces.structure.backbone import Backbone

SEED = 0
"""Of what moves the weights, and of the order of the text."""
MINUTES = 10
"""Of healing."""
FULL_PRECISION = "FULL_PRECISION"
"""Environment variable that names another folder for the model."""

_CURVE_FILE = "healing.json"
_BLOCK = 32
"""Inputs that share a scale in the file."""
_STEPS = 15
"""From the least to the largest weight of a block, in 4 bits."""
_EMBEDDING_STEPS = 127
"""From zero to the largest weight of a block of the embedding, which the file holds in 8 bits."""
_LOOK_WINDOWS = 24
"""Of text that is not trained on, by which the best weights are chosen."""


@dataclass(frozen=True, kw_only=True)
class FullPrecision:
    """The model, and how it was healed."""

    folder: Path
    curve: LearningCurve

    def __str__(self) -> str:
        first, best = self.curve.looks[0], self.curve.looks[self.curve.best]
        return (
            f"weights moved at random within their steps (KL {first.fresh_kl:.2f} to those of the "
            f"file), then healed for {self.curve.looks[-1].seconds / 60:.0f} minutes (KL "
            f"{best.fresh_kl:.2f})"
        )


def full_precision(progress: Progress, minutes: float = MINUTES) -> FullPrecision:
    """Return the model, made now unless it was before.

    Args:
        progress: Receives stages and progress.
        minutes: Of healing, if it is made.
    """
    folder = Path(os.environ.get(FULL_PRECISION) or RESULTS.parent / "full-precision")
    if not folder.exists():
        with scratch_beside(folder) as scratch:
            _write(scratch / "model", scratch, minutes, progress)
            publish(scratch / "model", folder)
    curve = LearningCurve.model_validate_json((folder / _CURVE_FILE).read_text(encoding="utf-8"))
    return FullPrecision(folder=folder, curve=curve)


def _write(folder: Path, scratch: Path, minutes: float, progress: Progress) -> None:
    """Write the model to a folder in bfloat16, and its learning curve beside it."""
    teacher, student = (load_model(str(demo_model()), dtype=torch.float32) for _ in range(2))
    dither_(student.model, torch.Generator().manual_seed(SEED))
    settings = HealSettings.checked(model=str(folder), minutes=minutes, seed=SEED)
    curve = _heal_(student, teacher, scratch, settings, progress)
    nn.Module.to(student.model, torch.bfloat16)
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    (folder / _CURVE_FILE).write_text(curve.model_dump_json(indent=1) + "\n", encoding="utf-8")


@torch.no_grad()
def dither_(model: nn.Module, generator: torch.Generator) -> None:
    """Move each weight of a model's matrices at random within its step, uniformly.

    A head that is tied to the embedding is moved with it.
    """
    moved: set[int] = set()
    for module in model.modules():
        if not isinstance(module, nn.Embedding | nn.Linear) or id(module.weight) in moved:
            continue
        moved.add(id(module.weight))
        weight = module.weight
        noise = torch.rand(weight.shape, generator=generator) - 0.5
        weight += noise * _steps(weight, is_embedding=isinstance(module, nn.Embedding))


def _steps(weight: Tensor, *, is_embedding: bool) -> Tensor:
    """Return how far apart the values are that each weight of a matrix may have.

    The least and the largest weight of a block are on its grid; the embedding's is symmetric.
    """
    blocks = weight.reshape(len(weight), -1, _BLOCK)
    if is_embedding:
        steps = blocks.abs().amax(dim=2, keepdim=True) / _EMBEDDING_STEPS
    else:
        steps = (blocks.amax(dim=2, keepdim=True) - blocks.amin(dim=2, keepdim=True)) / _STEPS
    return steps.expand_as(blocks).reshape(weight.shape)


def _heal_(
    student: LoadedModel,
    teacher: LoadedModel,
    scratch: Path,
    settings: HealSettings,
    progress: Progress,
) -> LearningCurve:
    """Train a moved model toward the one that it came from, on text that is not held out."""
    text = searched_text(TextSource(**text_options(scratch)))
    vocabulary = Vocabulary.of(teacher.model, teacher.tokenizer)
    length = settings.window_tokens
    ids = vocabulary.ids(text, "the text")[-_LOOK_WINDOWS * length :]
    looks = torch.from_numpy(ids).reshape(_LOOK_WINDOWS, length)
    words = text_to_heal([text], "the text", vocabulary, [looks], settings)
    pupil = enrol(student.model, Backbone(teacher.model), looks, settings)
    checkpoint = CheckpointFile(scratch / "healing.safetensors", settings.mark())
    return train(pupil, words, settings, checkpoint, progress)


def main() -> int:
    """Make the model, unless it is there."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with Terminal() as progress:
        print(full_precision(progress))
    return 0


if __name__ == "__main__":
    sys.exit(main())
