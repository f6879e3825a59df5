"""Candidates of the tiny models, and their logits by a road that the planner does not take."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.structure.model import ModelStructure
from tests.models.factory import LAYERS, VOCABULARY
from tests.models.families import Family


def random_tokens(batch: int = 2, length: int = 12, *, seed: int = 0) -> Tensor:
    """Give token ids ``(batch, length)`` without special ones."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (batch, length), generator=generator)


def irregular_plan(family: Family) -> list[NDArray[np.int_]]:
    """Give kept units of each component that show every kind of hole.

    Layer 0 has no attention, 1 no MLP and 2 no attention, so that 1 and 2 can run as one; 3 is
    gone, 4 has fewer groups and channels, the last has no MLP.
    """
    rng = np.random.default_rng(0)
    groups, channels = family.groups, family.channels
    counts = [0, channels, groups, 0, 0, 16, 0, 0, groups - 1, 24, groups, 0]
    return _picked(rng, counts, family)


def uniform_plan(family: Family) -> list[NDArray[np.int_]]:
    """Give kept units where each layer but the dropped second keeps as many as the others."""
    rng = np.random.default_rng(1)
    counts = [1, 24, 0, 0, *[1, 24] * (LAYERS - 2)]
    return _picked(rng, counts, family)


def shorter_plan(family: Family) -> list[NDArray[np.int_]]:
    """Give kept units where two whole layers are dropped and nothing else."""
    whole = [family.groups, family.channels]
    counts = [*whole, 0, 0, 0, 0, *whole, *whole, *whole]
    return _picked(np.random.default_rng(2), counts, family)


def _picked(
    rng: np.random.Generator, counts: Sequence[int], family: Family
) -> list[NDArray[np.int_]]:
    totals = [family.groups, family.channels] * LAYERS
    return [
        np.sort(rng.permutation(total)[:count])
        for total, count in zip(totals, counts, strict=True)
    ]


@torch.inference_mode()
def run_layers(structure: ModelStructure, layers: Sequence[nn.Module], tokens: Tensor) -> Tensor:
    """Give the logits of a model with other layers in the place of its own."""
    backbone = structure.backbone
    inputs = backbone.enter(tokens)
    hidden = inputs.hidden
    for layer, call in zip(layers, inputs.calls, strict=True):
        hidden = backbone.run_layer(layer, hidden, call)
    return backbone.logits(backbone.leave(hidden))


@torch.inference_mode()
def masked_logits(
    family: Family, structure: ModelStructure, kept: Sequence[NDArray[np.int_]], tokens: Tensor
) -> Tensor:
    """Give the logits of the dense model whose output projections are blind to removed units.

    A component that keeps nothing gives zero. None of the planner's surgery takes part.
    """
    backbone = structure.backbone
    with _hooks() as hooks:
        for index, layer in enumerate(backbone.layers):
            for units, own, module in (
                (kept[2 * index], family.attention, family.attention_module),
                (kept[2 * index + 1], family.mlp, family.mlp_module),
            ):
                output, columns = list(own.items())[-1]
                if len(units):
                    mask = torch.from_numpy(np.isin(columns, units))
                    hooks.append(
                        layer.get_submodule(output).register_forward_pre_hook(_blind(mask))
                    )
                else:
                    hooks.append(
                        layer.get_submodule(module or output).register_forward_hook(_silent)
                    )
        logits: Tensor = backbone.model(tokens, use_cache=False).logits
    return logits


def _blind(mask: Tensor) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    return lambda _module, args: (args[0] * mask,)


def _silent(_module: nn.Module, _args: object, output: Any) -> Any:
    if isinstance(output, tuple):
        return (torch.zeros_like(output[0]), *output[1:])
    return torch.zeros_like(output)


@contextmanager
def _hooks() -> Iterator[list[Any]]:
    hooks: list[Any] = []
    try:
        yield hooks
    finally:
        for hook in hooks:
            hook.remove()
