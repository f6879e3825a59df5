"""The formula of a head gives what the model's own forward gives, or there is none."""

import pytest
import torch
from torch import Tensor, nn

from search_spaces.structure.backbone import Backbone
from search_spaces.structure.head import LinearHead
from tests.models.factory import make_model
from tests.models.families import FAMILIES


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "phi", "cohere", "granite"])
@torch.no_grad()
def test_parts_are_those_of_the_whole(name: str) -> None:
    _check(Backbone(make_model(FAMILIES[name].config())), has_factor=name in {"cohere", "granite"})


@torch.no_grad()
def test_capped_logits_are_capped_in_parts_too() -> None:
    config = FAMILIES["gemma3"].config()
    config.final_logit_softcapping = 5.0
    backbone = Backbone(make_model(config))
    _check(backbone, has_factor=False)
    assert backbone.linear_head is not None
    assert backbone.linear_head.cap == 5.0


def _check(backbone: Backbone, *, has_factor: bool) -> None:
    head = backbone.linear_head
    assert head is not None
    assert (head.factor != 1) == has_factor
    width = head.weight.shape[1]
    hidden = 3 * torch.randn(7, width, generator=torch.Generator().manual_seed(1))
    whole = backbone.logits(hidden)
    for part in (slice(0, 10), slice(10, 64), slice(64, 10_000)):
        torch.testing.assert_close(head.logits(hidden, part), whole[:, part])


@pytest.mark.parametrize("cap", [None, 3.0])
def test_its_gradient_is_that_of_its_logits(cap: float | None) -> None:
    generator = torch.Generator().manual_seed(2)
    weight, hidden = (torch.randn(rows, 24, generator=generator) for rows in (1100, 5))
    by_logits = torch.randn(5, 1100, generator=generator)
    head = LinearHead(weight=weight, bias=None, factor=0.25, cap=cap)
    logits = 0.25 * (hidden.requires_grad_() @ weight.T)
    if cap is not None:
        logits = cap * torch.tanh(logits / cap)
    (expected,) = torch.autograd.grad(logits, hidden, by_logits)
    torch.testing.assert_close(head.by_hidden(by_logits, logits.detach()), expected)


@pytest.mark.parametrize("lowest", [0.0, -1e4])
@torch.no_grad()
def test_its_means_are_those_of_whole_distributions(lowest: float) -> None:
    """Also where the first tiles are as good as ruled out, and rise."""
    generator = torch.Generator().manual_seed(4)
    weight, hidden = (torch.randn(rows, 24, generator=generator) for rows in (4100, 5))
    bias = torch.linspace(lowest, 0.0, 4100)
    head = LinearHead(weight=weight, bias=bias, factor=0.5, cap=None)
    p = head.logits(hidden, slice(None)).double().softmax(dim=1)
    rows, offset = head.means(hidden)
    torch.testing.assert_close(rows, (p @ weight.double()).float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(offset, (p @ bias.double()).float(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_its_gradient_does_not_depend_on_how_many_threads_sum_it() -> None:
    generator = torch.Generator().manual_seed(3)
    head = LinearHead(
        weight=torch.randn(8192, 576, generator=generator), bias=None, factor=1.0, cap=None
    )
    by_logits = torch.randn(128, 8192, generator=generator)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            found.append(head.by_hidden(by_logits, by_logits))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@torch.no_grad()
def test_a_head_of_another_formula_has_none() -> None:
    class Squared(nn.Linear):
        def forward(self, hidden: Tensor) -> Tensor:
            return super().forward(hidden).square()

    model = make_model(FAMILIES["llama"].config())
    dense = model.get_submodule("lm_head")
    assert isinstance(dense, nn.Linear)
    squared = Squared(dense.in_features, dense.out_features, bias=False)
    squared.weight = dense.weight
    model.set_submodule("lm_head", squared)
    assert Backbone(model).linear_head is None
