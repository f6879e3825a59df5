"""What is measured of mixtures of experts, against the same by hooks, by hand and by masking."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evaluators.collectors import collect_statistics
from evaluators.collectors.names import OF_EXPERT_REMOVAL, OF_EXPERTS, keys_of
from search_spaces.models.streaming import LayerStream
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.expert_hooks import masked_router
from search_spaces.structure.model import ModelStructure
from tests.evaluators.collectors.routed_text import LAYER, ROUTED, TOKENS, experts_of
from tests.models.factory import make_model, write_tokenizer
from tests.models.moe_families import EACH_MOE_FAMILY, MOE_FAMILIES, mixture
from tests.models.parts import experts_in
from tests.models.streamed import opened


@cache
def collected(name: str) -> tuple[Statistics, ...]:
    return collect_statistics(mixture(name), TOKENS, ROUTED)


def seen(structure: ModelStructure) -> dict[str, Tensor]:
    """Return inputs and outputs of one layer's router and experts as the model itself runs."""
    experts = experts_of(structure)
    layer = structure.backbone.layers[LAYER]
    found: dict[str, Tensor] = {}

    def routed(_module: Any, _args: Any, output: Sequence[Tensor]) -> None:
        found["logits"] = output[0].float()

    def held(_module: Any, args: Sequence[Tensor], output: Tensor) -> None:
        found["hidden"], found["chosen"], found["weights"] = args
        found["output"] = output

    hooks = [
        layer.get_submodule(experts.router).register_forward_hook(routed),
        layer.get_submodule(experts.holder).register_forward_hook(held),
    ]
    structure.backbone.model(input_ids=TOKENS, use_cache=False)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("name", EACH_MOE_FAMILY)
def test_what_experts_do_is_measured_as_the_model_does_it(name: str) -> None:
    structure = mixture(name)
    experts, got = experts_of(structure), seen(structure)
    holder = structure.backbone.layers[LAYER].get_submodule(experts.holder)
    logits, hidden = got["logits"], got["hidden"]
    gates = torch.zeros(TOKENS.numel(), experts.member_count)
    gates.scatter_(1, got["chosen"], got["weights"])
    chosen = torch.zeros_like(gates).scatter_(1, got["chosen"], 1.0)
    largest = gates == gates.max(dim=1, keepdim=True).values  # two of Phi's may be 1
    best = logits.masked_fill(~largest, -torch.inf).argmax(dim=1)
    first = functional.one_hot(best, experts.member_count).float()
    shares = logits.masked_fill(chosen == 0, -torch.inf).softmax(dim=1)
    sure = shares >= 1 / experts.top_k - 1e-5
    above = logits - logits.min(dim=1, keepdim=True).values
    ones = torch.ones(len(hidden), 1)
    alone = [holder(hidden, ones.long() * expert, ones) for expert in range(experts.member_count)]
    norms = torch.stack(alone, dim=1).norm(dim=2)
    expected: dict[StatisticName, Tensor] = {
        "expert_frequency": chosen.mean(dim=0),
        "expert_weight": gates.mean(dim=0),
        "expert_first": first.mean(dim=0),
        "expert_confidence": (gates * first).sum(dim=0) / first.sum(dim=0).clamp(min=1),
        "expert_selection": (above * chosen * sure).mean(dim=0),
        "expert_output": (gates * norms).sum(dim=0) / chosen.sum(dim=0).clamp(min=1),
        "expert_input_energy": (gates.T.square() @ hidden.square()) / len(hidden),
        "routing_gram": logits.T @ logits / len(logits),
    }
    found = collected(name)[LAYER]
    assert {key for key in found if key[0] in ROUTED} == {(n, experts.holder) for n in ROUTED}
    for statistic, value in expected.items():
        measured = found[statistic, experts.holder]
        assert measured.dtype == torch.float32
        torch.testing.assert_close(measured, value, rtol=1e-4, atol=1e-6, msg=statistic)


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_channels_are_what_the_last_matrix_reads(name: str) -> None:
    structure = mixture(name)
    experts, got = experts_of(structure), seen(structure)
    holder: Any = structure.backbone.layers[LAYER].get_submodule(experts.holder)
    gates = torch.zeros(TOKENS.numel(), experts.member_count)
    gates.scatter_(1, got["chosen"], got["weights"])
    expected = []
    for expert in range(experts.member_count):
        up = holder.gate_up_proj[expert]
        if name == "mixtral":
            gate, rest = (got["hidden"] @ up.T).chunk(2, dim=1)
            channels = functional.silu(gate) * rest
        else:
            both = got["hidden"] @ up + holder.gate_up_proj_bias[expert]
            channels = holder._apply_gate(both)
        expected.append((gates[:, expert, None] * channels).square().mean(dim=0))
    found = collected(name)[LAYER]["expert_channel_energy", experts.holder]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-8)


def test_batches_make_no_difference() -> None:
    structure = mixture("qwen3-moe")
    wanted = OF_EXPERTS
    whole = collect_statistics(structure, TOKENS, wanted)
    parts = collect_statistics(structure, TOKENS, wanted, batch_tokens=16)
    for one, other in zip(whole, parts, strict=True):
        assert set(one) == set(other)
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-6, msg=str(key))


def test_layers_without_experts_have_no_such_statistics() -> None:
    structure = mixture("deepseek-v3")
    assert experts_in(structure.layers[0]) is None
    assert set(collected("deepseek-v3")[0]) == {("tokens", ""), ("hidden_energy", "")}
    for layer, found in zip(structure.layers, collected("deepseek-v3"), strict=True):
        assert set(found) == set(keys_of(layer, ROUTED))


def error(structure: ModelStructure, kept: Sequence[int]) -> float:
    """Run the layer with some experts masked: only they make a difference to what it gives."""
    experts, backbone = experts_of(structure), structure.backbone
    inputs = backbone.enter(TOKENS)
    state = inputs.hidden
    for index in range(LAYER):
        state = backbone.run_layer(backbone.layers[index], state, inputs.calls[index])
    layer, call = backbone.layers[LAYER], inputs.calls[LAYER]
    dense = backbone.run_layer(layer, state, call)
    gone = torch.ones(experts.member_count, dtype=torch.bool)
    gone[list(kept)] = False
    with masked_router(layer, experts, gone):
        masked = backbone.run_layer(layer, state, call)
    return float((dense - masked).square().sum(dim=-1).mean())


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v2", "gpt-oss", "phi-moe"])
def test_turns_have_the_errors_of_the_model_without_those_experts(name: str) -> None:
    structure = mixture(name)
    component = experts = experts_of(structure)
    found = collect_statistics(structure, TOKENS, frozenset({"expert_reconstruction"}))
    errors = found[LAYER]["expert_reconstruction", experts.holder]
    order = errors.reshape(component.group_count, -1).argsort(dim=1, descending=True, stable=True)
    reached = 0.0
    for count in range(component.unit_count - 1, experts.lowest - 1, -1):
        first = torch.arange(component.group_count)[:, None] * component.unit_count
        kept = (first + order)[:, :count].flatten().tolist()
        gone = errors[(first + order)[:, count]]
        reached = max(reached, error(structure, kept))
        assert gone.tolist() == pytest.approx([reached] * len(gone), rel=1e-3, abs=1e-9)


def test_only_what_is_wanted_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("not wanted")

    structure = mixture("mixtral")
    monkeypatch.setattr("evaluators.collectors.expert_activations.turn_errors", refuse)
    monkeypatch.setattr("evaluators.collectors.expert_activations._Sample.drawing", refuse)
    monkeypatch.setattr("evaluators.collectors.expert_activations.ExpertMeter._add_run", refuse)
    monkeypatch.setattr("evaluators.collectors.collect.measure_expert_removals", refuse)
    collect_statistics(structure, TOKENS, frozenset({"expert_frequency", "routing_gram"}))
    monkeypatch.setattr("evaluators.collectors.activations.ExpertMeter", refuse)
    collect_statistics(structure, TOKENS, frozenset({"input_mean"}))
    with pytest.raises(AssertionError, match="not wanted"):
        collect_statistics(structure, TOKENS, frozenset({"expert_frequency"}))


def test_all_experts_run_on_some_of_the_tokens_only(monkeypatch: pytest.MonkeyPatch) -> None:
    structure = mixture("mixtral")
    wanted: frozenset[StatisticName] = frozenset({"expert_reconstruction"})
    whole = collect_statistics(structure, TOKENS, wanted)
    monkeypatch.setattr("evaluators.collectors.expert_activations.SAMPLED_TOKENS", 9)
    shapes = []

    def note(outputs: Tensor, *_: object, **__: object) -> np.ndarray:
        shapes.append(tuple(outputs.shape))
        return np.zeros(len(outputs), dtype=np.float32)

    monkeypatch.setattr("evaluators.collectors.expert_activations.turn_errors", note)
    for batch_tokens in (16, 4096):
        collect_statistics(structure, TOKENS, wanted, batch_tokens=batch_tokens)
    assert set(shapes) == {(8, 9, 32)}
    assert len(shapes) == 2 * len(whole)


@pytest.mark.parametrize("name", ["mixtral"])
def test_streamed_mixtures_are_measured_one_layer_in_memory_at_a_time(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = make_model(MOE_FAMILIES[name].config())
    model.save_pretrained(tmp_path, max_shard_size="64KB")
    write_tokenizer(tmp_path)
    wanted = OF_EXPERTS | OF_EXPERT_REMOVAL
    expected = collect_statistics(opened(tmp_path, "never").structure, TOKENS, wanted)
    streamed = opened(tmp_path, "always")
    layers = streamed.structure.backbone.layers
    held: list[int] = []
    read = LayerStream._read

    def note(stream: LayerStream, index: int) -> None:
        read(stream, index)
        held.append(sum(not next(layer.parameters()).is_meta for layer in layers))

    monkeypatch.setattr(LayerStream, "_read", note)
    found = collect_statistics(streamed.structure, TOKENS, wanted)
    assert set(held) == {1}
    streamed.check_layers_absent()
    for one, other in zip(expected, found, strict=True):
        assert set(one) == set(other)
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-4, atol=1e-6, msg=str(key))
