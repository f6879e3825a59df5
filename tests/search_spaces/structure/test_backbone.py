"""The planner's own path from ids to logits is the model's."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from search_spaces.errors import ModelError, StructureError
from search_spaces.reading.read import read_structure
from search_spaces.structure.backbone import Backbone, probe_tokens
from search_spaces.structure.model import ModelStructure
from search_spaces.structure.path_checks import check_cache, check_path
from tests.models.candidates import random_tokens, run_layers
from tests.models.factory import GROUPED, LAYERS, make_model


class Louder(LlamaModel):  # type: ignore[no-untyped-call]
    """Does something after the final norm that is no module."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state * 1.5
        return output


class Forgetful(LlamaModel):  # type: ignore[no-untyped-call]
    """Reads nothing of the cache that it fills."""

    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        output = super().forward(*args, past_key_values=None, **kwargs)
        output.past_key_values = past_key_values or output.past_key_values
        return output


class Twice(LlamaModel):  # type: ignore[no-untyped-call]
    """Runs its layers twice."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        super().forward(*args, **kwargs)
        return super().forward(*args, **kwargs)


def test_own_path_gives_the_logits_of_the_model(structure: ModelStructure) -> None:
    tokens = random_tokens(batch=3, length=20)
    got = run_layers(structure, list(structure.backbone.layers), tokens)
    expected = structure.backbone.model(tokens, use_cache=False).logits
    # the same operations in the same order; only the head multiplies one long batch
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.std()))


def test_logits_of_some_positions(llama: ModelStructure) -> None:
    backbone, tokens = llama.backbone, random_tokens()
    inputs = backbone.enter(tokens)
    hidden = inputs.hidden
    for layer, call in zip(backbone.layers, inputs.calls, strict=True):
        hidden = backbone.run_layer(layer, hidden, call)
    final = backbone.leave(hidden)
    expected = backbone.model(tokens, use_cache=False).logits
    some = backbone.logits(final[1, [2, 7]])
    assert some.shape == (2, expected.shape[-1])
    torch.testing.assert_close(some, expected[1, [2, 7]])


def test_entering_gives_the_embedding_and_one_call_a_layer(llama: ModelStructure) -> None:
    tokens = random_tokens()
    inputs = llama.backbone.enter(tokens)
    assert len(inputs.calls) == LAYERS
    embedded = llama.backbone.model.get_input_embeddings()(tokens)
    assert torch.equal(inputs.hidden, embedded)
    assert llama.backbone.stack.path == "model.layers"


def test_the_model_works_as_before_after_its_head_was_borrowed(llama: ModelStructure) -> None:
    tokens = random_tokens()
    before = llama.backbone.model(tokens, use_cache=False).logits
    llama.backbone.logits(torch.zeros(1, 2, 32))
    assert torch.equal(llama.backbone.model(tokens, use_cache=False).logits, before)


def test_probe_tokens_differ_and_are_known(llama: ModelStructure) -> None:
    tokens: Tensor = probe_tokens(llama.backbone.model)
    assert tokens.tolist() == [[0, 7, 14, 21, 28, 35, 42, 49]]


def test_a_path_that_differs_is_refused() -> None:
    model: Any = make_model(LlamaConfig(**GROUPED))
    model.model.__class__ = Louder
    with pytest.raises(StructureError, match=r"got a difference of .* after `model\.layers`"):
        check_path(Backbone(model))
    with pytest.raises(StructureError, match=r"after `model\.layers`"):
        read_structure(model)


def test_a_cache_that_changes_logits_is_refused() -> None:
    model: Any = make_model(LlamaConfig(**GROUPED))
    passes: list[bool] = []
    model.register_forward_pre_hook(
        lambda _model, _args, given: passes.append(given["use_cache"]), with_kwargs=True
    )
    check_cache(model)
    assert passes == [False, True, True, True]
    model.model.__class__ = Forgetful
    with pytest.raises(StructureError, match="must compute the same with a cache as without"):
        check_cache(model)
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(ModelError, match="logits must be finite"):
        check_cache(model)


def test_layers_that_run_twice_are_refused() -> None:
    model: Any = make_model(LlamaConfig(**GROUPED))
    model.model.__class__ = Twice
    with pytest.raises(StructureError, match=r"of `model\.layers` must run once.* got 12 runs"):
        read_structure(model)


def test_a_model_without_a_stack_is_refused() -> None:
    model = make_model(LlamaConfig(**GROUPED))
    model.config.num_hidden_layers = LAYERS + 1
    with pytest.raises(StructureError, match=r"one list of 7 modules, and LlamaForCausalLM has"):
        Backbone(model)


@torch.inference_mode()
def test_what_enters_the_layers_is_found_without_running_one(structure: ModelStructure) -> None:
    backbone, tokens = structure.backbone, random_tokens(batch=3, length=9, seed=4)
    before = backbone.model(tokens, use_cache=False).logits
    expected = backbone.enter(tokens)
    ran: list[object] = []
    hooks = [layer.register_forward_hook(lambda *_: ran.append(1)) for layer in backbone.layers]
    try:
        hidden, calls = backbone.approach(tokens)
    finally:
        for hook in hooks:
            hook.remove()
    assert not ran
    assert torch.equal(hidden, expected.hidden)
    assert torch.equal(backbone.embed(tokens), hidden)
    torch.testing.assert_close(
        [(call.args, call.kwargs) for call in calls],
        [(call.args, call.kwargs) for call in expected.calls],
        rtol=0,
        atol=0,
    )
    # the pass without layers left nothing behind
    assert torch.equal(backbone.model(tokens, use_cache=False).logits, before)
    assert not any(layer._forward_pre_hooks for layer in backbone.layers)
