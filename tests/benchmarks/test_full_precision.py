"""Weights moved off the grid of a file of four bits."""

import copy

import torch
from torch import Tensor, nn

from benchmarks.full_precision import dither_
from tests.models.families import FAMILIES

BLOCK = 32


def tied_model() -> nn.Module:
    """A model whose rows are whole blocks, with its head tied to its embedding."""
    structure = FAMILIES["llama"].structure(
        layers=1, intermediate_size=2 * BLOCK, tie_word_embeddings=True
    )
    return copy.deepcopy(structure.backbone.model)


def on_grid(weight: Tensor) -> Tensor:
    """Weights on sixteen values in each block, as they come from a file of four bits."""
    blocks = weight.reshape(len(weight), -1, BLOCK)
    low, high = blocks.amin(dim=2, keepdim=True), blocks.amax(dim=2, keepdim=True)
    step = (high - low) / 15
    return (low + ((blocks - low) / step).round() * step).reshape(weight.shape)


@torch.no_grad()
def test_each_weight_moves_within_its_step_and_none_stays_on_the_grid() -> None:
    model = tied_model()
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    del linears["lm_head"]  # tied to the embedding
    for linear in linears.values():
        linear.weight.copy_(on_grid(linear.weight))
    before = copy.deepcopy(model)
    dither_(model, torch.Generator().manual_seed(0))
    assert linears
    for name, linear in linears.items():
        was = before.get_parameter(f"{name}.weight")
        blocks = was.reshape(len(was), -1, BLOCK)
        step = (blocks.amax(dim=2) - blocks.amin(dim=2)) / 15
        moved = (linear.weight - was).reshape(blocks.shape).abs() / step[..., None]
        assert float(moved.max()) <= 0.5 + 1e-4
        assert 0.2 < float(moved.mean()) < 0.3  # a quarter of a step, as uniform noise moves
    embedding = "model.embed_tokens.weight"
    assert model.get_parameter(embedding) is model.get_parameter("lm_head.weight")
    was = before.get_parameter(embedding)
    shift = (model.get_parameter(embedding) - was).abs()
    steps = was.reshape(-1, BLOCK).abs().amax(dim=1) / 127
    assert float((shift.reshape(-1, BLOCK) / steps[:, None]).max()) <= 0.5 + 1e-4  # moved once


def test_the_seed_decides() -> None:
    first, again, other = (tied_model() for _ in range(3))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        dither_(model, torch.Generator().manual_seed(seed))
    weights = [next(model.parameters()) for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
