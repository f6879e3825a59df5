"""SmolLM2-135M as a model of full precision: its weights off the grid of the file they came in.

The file holds 4 bits a weight. Formats that are measured on such weights mean nothing: those that
hold its grid lose nothing, and finer ones that miss it do. So each weight is moved at random
within its step, which costs the model a third of a nat, and the moved model is then healed toward
the one of the file. What comes of it is a model of its own, which benchmarks take for the dense
one.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.contest import text_options
from evaluators.data.text_samples import Vocabulary
from planner.cli.commands.demo_command import demo_model
from planner.recovery.healing.healing_checkpoint import CheckpointFile
from planner.recovery.healing.pupil import enrol, train
from planner.recovery.healing.run_text import text_to_heal
from planner.settings.heal import HealSettings
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.progress import NO_PROGRESS
from search_spaces.structure.backbone import Backbone

logger = logging.getLogger(__name__)

_BLOCK = 32
"""Inputs that share a scale in the file."""
_STEPS = 15
"""From the least to the largest weight of a block, in 4 bits."""
_EMBEDDING_STEPS = 127
"""From zero to the largest weight of a block of the embedding, which the file holds in 8 bits."""
_LOOK_WINDOWS = 24
"""Of text that is not trained on, by which the best weights are chosen."""


def write_full_precision(folder: Path, *, minutes: float, seed: int) -> None:
    """Write the model to a folder in bfloat16; one that is there already is left as it is.

    Args:
        folder: To be made.
        minutes: Of healing.
        seed: Of what moves the weights, and of the order of the text.
    """
    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    teacher = load_model(str(demo_model()), dtype=torch.float32)
    student = load_model(str(demo_model()), dtype=torch.float32)
    dither_(student.model, torch.Generator().manual_seed(seed))
    settings = HealSettings.checked(model=str(folder), minutes=minutes, seed=seed)
    text = Path(text_options(folder)["data"]).read_text(encoding="utf-8")
    _heal_(student, teacher, text, settings)
    student.model.to(torch.bfloat16)  # type: ignore[arg-type]  (as transformers types it)
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)


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


def _heal_(student: LoadedModel, teacher: LoadedModel, text: str, settings: HealSettings) -> None:
    """Train a moved model toward the one that it came from."""
    vocabulary = Vocabulary.of(teacher.model, teacher.tokenizer)
    length = settings.window_tokens
    ids = vocabulary.ids(text, "the text")[-_LOOK_WINDOWS * length :]
    looks = torch.from_numpy(ids).reshape(_LOOK_WINDOWS, length)
    words = text_to_heal([text], "the text", vocabulary, [looks], settings)
    pupil = enrol(student.model, Backbone(teacher.model), looks, settings)
    checkpoint = CheckpointFile(Path(settings.model) / "healing.safetensors", settings.mark())
    curve = train(pupil, words, settings, checkpoint, NO_PROGRESS)
    checkpoint.discard()
    logger.info("weights off their grid, healed: %s", curve)
