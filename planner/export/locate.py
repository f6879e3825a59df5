"""Where an export goes wrong: the first layer that its target writes as something else."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from planner.export.reference import Reference
from planner.targets.cut_layers import CutLayers, logits_of_layers
from planner.targets.fresh_process import fresh_process
from planner.targets.target import Target
from planner.targets.trial import ProofRequest
from search_spaces.errors import PlannerError
from search_spaces.models.loading import LoadedModel
from search_spaces.surgery.slice_and_cut import cut


def describe_fault(
    target: Target, whole: CutLayers, dense: LoadedModel, scratch: Path, reference: Reference
) -> str:
    """Return in words which layer of an export computes something else than it should.

    The model is written again with its first layers alone, more and more of them by bisection,
    and each time its logits are compared with those of the same layers here.

    Args:
        target: That wrote it.
        whole: What was written.
        dense: The model that it was cut from.
        scratch: An existing folder to write to.
        reference: What it should compute.
    """
    tolerance = target.tolerance * reference.spread
    if (
        _gap(logits_of_layers(whole.structure, whole.layers, reference.tokens), reference.logits)
        > tolerance
    ):
        return "the layers differ as they are cut, before they are written"

    def is_right(count: int) -> bool:
        part, folder = first_layers(whole, count), scratch / f"first-{count}"
        try:
            logits = _served_logits(target, part, dense, folder, reference)
        except PlannerError:  # not even written, or not taken
            return False
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # the disk has room for one of them
        return (
            _gap(logits, logits_of_layers(part.structure, part.layers, reference.tokens))
            <= tolerance
        )

    held = _first_count(whole)
    if is_right(len(whole.layers)):
        return "read at once its layers are right, so that it differs in what it caches"
    if not is_right(held):
        path = whole.structure.backbone.layer_paths[held - 1]
        return f"it differs in `{path}`, or outside of the layers"
    low, high = held, len(whole.layers)  # right with the first `low`, wrong with the first `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_right(middle) else (low, middle)
    path = whole.structure.backbone.layer_paths[high - 1]
    return f"the first layer that differs is `{path}`"


def _first_count(whole: CutLayers) -> int:
    """Return the number of first layers up to one that keeps an attention: models have some."""
    for index in range(len(whole.layers)):
        if any(c.mixes_tokens and len(kept) for c, kept, _ in whole.of_layer(index)):
            return index + 1
    return len(whole.layers)


def first_layers(whole: CutLayers, count: int) -> CutLayers:
    """Return the same with its first layers alone: the others keep nothing."""
    structure = whole.structure
    nothing = np.zeros(0, dtype=np.int_)
    layers, kept = list(whole.layers), list(whole.kept)
    for index in range(count, len(layers)):
        span = structure.spans[index]
        components = structure.components[span]
        with structure.backbone.resident(index) as layer:
            layers[index] = cut(layer, [(component, nothing) for component in components])
        kept[span] = [nothing] * len(components)
    return replace(whole, layers=tuple(layers), kept=tuple(kept))


def _served_logits(
    target: Target, part: CutLayers, dense: LoadedModel, folder: Path, reference: Reference
) -> Tensor:
    folder.mkdir()
    target.write(folder, part, dense, None)
    request = ProofRequest(target=target.choice, folder=folder, threads=1, greedy=0)
    process = fresh_process(target)
    return torch.from_numpy(process.prove(request, reference.tokens.numpy())[1])


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
