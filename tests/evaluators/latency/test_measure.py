from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, PreTrainedModel

from evaluators.latency import measure as latency
from evaluators.latency.measure import measure_latencies
from evaluators.latency.workload import Workload
from tests.models import tiny
from tests.models.factory import VOCABULARY


class Clock:
    """A clock that only the watched models move."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls: list[tuple[str, int]] = []

    def watch(self, name: str, model: PreTrainedModel, takes: Callable[[int], float]) -> None:
        """Let each call of a model take time, given how many calls it had before."""

        def note(_module: nn.Module, args: tuple[Tensor], _kwargs: object) -> None:
            self.seconds += takes(sum(who == name for who, _ in self.calls))
            self.calls.append((name, args[0].shape[1]))

        model.register_forward_pre_hook(note, with_kwargs=True)


def two_models() -> dict[str, PreTrainedModel]:
    return {name: tiny.llama(layers=1).backbone.model for name in ("dense", "pruned")}


WORKLOAD = Workload(prompt_tokens=20, new_tokens=4)


def test_models_take_turns_after_one_warm_up_each(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, models = Clock(), two_models()
    for name, model in models.items():
        clock.watch(name, model, lambda _: 1.0)
    measure_latencies(models, WORKLOAD)
    prompts = [name for name, length in clock.calls if length == 20]
    assert prompts == (["dense"] * 3 + ["pruned"] * 3) * (1 + 3)
    steps = [name for name, length in clock.calls if length == 1]
    assert steps == (["dense"] * 4 + ["pruned"] * 4) * (1 + 3)


def test_the_medians_leave_out_the_warm_up_and_a_slow_repeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, models = Clock(), two_models()
    monkeypatch.setattr(latency, "now", lambda _model: clock.seconds)
    # seven calls a turn: the prompt three times and four tokens; the first turn warms up
    turns = {"dense": [100.0, 2.0, 90.0, 1.0], "pruned": [100.0, 0.5, 0.25, 0.75]}
    for name, model in models.items():

        def takes(before: int, seconds: list[float] = turns[name]) -> float:
            return seconds[before // 7] * (3 if before % 7 < 3 else 1)

        clock.watch(name, model, takes)
    found = measure_latencies(models, WORKLOAD)
    assert {name: (f.prefill_ms, f.decode_ms) for name, f in found.items()} == {
        "dense": (6000.0, 2000.0),
        "pruned": (1500.0, 500.0),
    }


def test_real_times_are_positive() -> None:
    model = tiny.llama().backbone.model
    found = measure_latencies({"dense": model}, Workload(prompt_tokens=8, new_tokens=2), repeats=1)
    assert found["dense"].prefill_ms > 0
    assert found["dense"].decode_ms > 0


def test_a_prompt_longer_than_the_vocabulary_wraps_around() -> None:
    seen: list[Tensor] = []
    model = tiny.llama(layers=1).backbone.model
    model.config.max_position_embeddings = 1000
    hook = model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    workload = Workload(prompt_tokens=VOCABULARY + 3, new_tokens=1)
    measure_latencies({"dense": model}, workload, repeats=1)
    hook.remove()
    assert seen[0][0].tolist() == [*range(VOCABULARY), 0, 1, 2]


def test_a_prompt_leaves_room_for_what_is_written() -> None:
    seen: list[Tensor] = []
    model = tiny.opt().backbone.model  # 64 learned positions: one more is an error
    hook = model.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    measure_latencies({"dense": model}, Workload(prompt_tokens=128, new_tokens=16), repeats=1)
    hook.remove()
    assert seen[0].shape[1] == 64 - 16


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
    measure_latencies({"dense": model}, Workload(prompt_tokens=4, new_tokens=1), repeats=1)
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
    assert multiplied(lambda: measure_latencies({"it": model}, workload)) == {"aten::mm"}
