from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from evaluators.latency import measure as latency
from evaluators.latency.measure import time_request
from evaluators.latency.workload import Workload
from tests.models import tiny
from tests.models.factory import VOCABULARY


def test_the_median_of_the_prefills_leaves_out_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lengths = [0.0], list[int]()
    takes = [4.0, 100.0, 6.0, 1.0, 1.5, 1.0, 2.5]  # the prompt three times, and four tokens

    def run(_module: nn.Module, args: tuple[Tensor], _kwargs: object) -> None:
        clock[0] += takes[len(lengths)]
        lengths.append(args[0].shape[1])

    model = tiny.llama(layers=1).backbone.model
    model.register_forward_pre_hook(run, with_kwargs=True)
    monkeypatch.setattr(latency, "now", lambda _model: clock[0])
    found = time_request(model, Workload(prompt_tokens=20, new_tokens=4))
    assert lengths == [20] * 3 + [1] * 4
    assert (found.prefill_ms, found.decode_ms) == (6000.0, 1500.0)


def test_real_times_are_positive() -> None:
    model = tiny.llama().backbone.model
    found = time_request(model, Workload(prompt_tokens=8, new_tokens=2))
    assert found.prefill_ms > 0
    assert found.decode_ms > 0


def test_a_prompt_longer_than_the_vocabulary_wraps_around() -> None:
    seen: list[Tensor] = []
    model = tiny.llama(layers=1).backbone.model
    hook = model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    workload = Workload(prompt_tokens=VOCABULARY + 3, new_tokens=1)
    time_request(model, workload)
    hook.remove()
    assert seen[0][0].tolist() == [*range(VOCABULARY), 0, 1, 2]


@pytest.mark.parametrize(
    ("asked", "fitted"),
    [((20, 4), (20, 4)), ((60, 10), (54, 10)), ((5, 100), (1, 63)), ((1, 0), (1, 0))],
)
def test_a_request_is_shortened_to_what_the_model_has_room_for(
    asked: tuple[int, int], fitted: tuple[int, int]
) -> None:
    request = Workload(prompt_tokens=asked[0], new_tokens=asked[1]).fitted(64)
    assert (request.prompt_tokens, request.new_tokens) == fitted


def test_weights_require_gradients_while_a_model_is_timed_as_in_one_that_was_just_loaded() -> None:
    model = tiny.llama(layers=1).backbone.model
    model.requires_grad_(requires_grad=False)
    some = next(iter(model.parameters()))
    some.requires_grad_()
    seen: list[set[bool]] = []
    hook = model.register_forward_pre_hook(
        lambda module, _args: seen.append({weight.requires_grad for weight in module.parameters()})
    )
    time_request(model, Workload(prompt_tokens=4, new_tokens=1))
    hook.remove()
    assert seen
    assert all(each == {True} for each in seen)
    assert [weight.requires_grad for weight in model.parameters()].count(True) == 1


def test_such_a_model_is_one_that_requires_them(saved_llama: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved_llama)
    assert all(weight.requires_grad for weight in model.parameters())


def multiplied(run: Callable[[], object]) -> set[str]:
    """The operations by which a head's weights ``(vocabulary, hidden)`` are multiplied."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        run()
    return {
        event.name
        for event in profiler.events()
        if event.name in {"aten::mm", "aten::bmm"} and event.input_shapes[1][-1] == VOCABULARY
    }


def test_the_head_of_a_prompt_s_last_token_is_multiplied_as_in_a_loaded_model() -> None:
    """Without gradients torch takes the other operation, which copies bfloat16 heads first."""
    model = tiny.llama(layers=1).backbone.model.requires_grad_(requires_grad=False)
    prompt = torch.arange(8)[None]
    with torch.inference_mode():
        assert multiplied(lambda: model(prompt, logits_to_keep=1)) == {"aten::bmm"}
    workload = Workload(prompt_tokens=8, new_tokens=0)
    assert multiplied(lambda: time_request(model, workload)) == {"aten::mm"}
