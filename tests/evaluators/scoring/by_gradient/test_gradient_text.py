"""The gradient of KL by final hidden states, by averages and by whole distributions."""

from functools import cache

import pytest
import torch
from torch import Tensor

from evaluators.scoring.by_gradient.gradient_text import GradientText
from evaluators.scoring.ends import Head
from search_spaces.structure.backbone import Backbone
from tests.models import tiny
from tests.models.factory import make_model
from tests.models.families import FAMILIES


@cache
def backbone(name: str, cap: float | None = None) -> Backbone:
    config = FAMILIES[name].config()
    if cap is not None:
        config.final_logit_softcapping = cap
    return Backbone(make_model(config))


@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.parametrize(("name", "cap"), [("llama", None), ("granite", None), ("gemma3", 5.0)])
def test_it_is_the_gradient_of_kl(name: str, cap: float | None, *, is_own: bool) -> None:
    model, tokens = backbone(name, cap), tiny.windows()[:2]
    with torch.no_grad():
        text = GradientText(model, tokens, model.enter(tokens).final)
    drawn = torch.Generator().manual_seed(0)
    final = text.final + 0.3 * torch.randn(text.final.shape, generator=drawn)
    formula = model.linear_head
    assert formula is not None
    own = formula.weight.detach() + 0.1 * torch.randn(formula.weight.shape, generator=drawn)
    weight = own if is_own else formula.weight.detach()

    def whole(states: Tensor) -> Tensor:
        logits = formula.factor * (states @ weight.T.to(states))
        return logits if cap is None else cap * torch.tanh(logits / cap)

    leaf = final.double().requires_grad_()
    p = model.logits(text.final).double().softmax(dim=-1).detach()
    kl = (p * (p.log() - whole(leaf).log_softmax(dim=-1))).sum(dim=-1)[:, :-1].sum()
    (expected,) = torch.autograd.grad(kl, leaf)
    read = Head(whole, formula, lambda: own if is_own else None)
    found = text.kl_by_final(read, final)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-5)
    assert not found[:, -1].any()
    assert text.positions == tokens.numel() - len(tokens)


def test_at_the_dense_model_it_is_exactly_zero() -> None:
    model, tokens = backbone("llama"), tiny.windows()[:2]
    with torch.no_grad():
        text = GradientText(model, tokens, model.enter(tokens).final)
    assert not text.kl_by_final(Head.of(model), text.final).any()
