from collections.abc import Callable
from functools import cache
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators.collectors import collect_statistics
from search_spaces.errors import DataError
from search_spaces.statistics import StatisticName
from search_spaces.structure.linear import matrix
from search_spaces.structure.model import ModelStructure
from tests.models import tiny
from tests.models.factory import VOCABULARY
from tests.progress import RecordedProgress

WANTED: frozenset[StatisticName] = frozenset({"input_second_moment"})
OF_HIDDEN: frozenset[StatisticName] = frozenset({"similarity", "angle"})
llama, opt, phi = cache(tiny.llama), cache(tiny.opt), cache(tiny.phi)


@torch.inference_mode()
def inputs_by_hand(structure: ModelStructure, tokens: Tensor) -> dict[str, Tensor]:
    """Every input of every linear layer over single-window passes, ``(tokens, columns)``."""
    seen: dict[str, list[Tensor]] = {}
    model = structure.backbone.model
    names = {id(m): name for name, m in model.named_modules() if isinstance(m, nn.Linear)}

    def hook(module: nn.Module, args: tuple[Tensor, ...], _output: object) -> None:
        if id(module) in names:
            (value,) = args
            seen.setdefault(names[id(module)], []).append(value.reshape(-1, value.shape[-1]))

    handle = nn.modules.module.register_module_forward_hook(hook)
    for window in tokens:
        model(input_ids=window[None])
    handle.remove()
    return {name: torch.cat(rows).double() for name, rows in seen.items()}


@pytest.mark.parametrize("family", [llama, opt], ids=["llama", "opt"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
def test_second_moments_equal_those_of_inputs_caught_by_hand(
    family: Callable[[], ModelStructure], batch_tokens: int
) -> None:
    structure, tokens = family(), tiny.windows()
    seen = inputs_by_hand(structure, tokens)
    found = collect_statistics(structure, tokens, WANTED, batch_tokens=batch_tokens)
    assert len(found) == len(structure.layers)
    for index, layer in enumerate(structure.layers):
        paths = [p.path for component in layer.components for p in component.projections]
        names = [
            ("hidden_energy", ""),
            ("tokens", ""),
            *(("input_second_moment", path) for path in paths),
        ]
        assert sorted(found[index]) == sorted(names)
        for path in paths:
            inputs = seen[f"{structure.backbone.stack.path}.{index}.{path}"]
            moment = found[index]["input_second_moment", path]
            assert moment.dtype == torch.float32
            expected = inputs.square().mean(dim=0)
            # float32 sums over 48 tokens
            torch.testing.assert_close(moment.double(), expected, rtol=1e-5, atol=1e-6)


@torch.inference_mode()
def test_the_energy_of_hidden_states_is_a_median_over_tokens() -> None:
    structure, tokens = llama(), tiny.windows()
    hidden = structure.backbone.model(input_ids=tokens, output_hidden_states=True).hidden_states
    found = collect_statistics(structure, tokens, WANTED)
    for index in range(len(structure.layers)):
        energies = hidden[index].double().square().sum(dim=-1).flatten()
        energy = found[index]["hidden_energy", ""]
        torch.testing.assert_close(energy.double(), energies.median(), rtol=1e-5, atol=0.0)


@torch.inference_mode()
def test_the_queries_read_the_normed_hidden_states() -> None:
    structure, tokens = llama(), tiny.windows()
    model = structure.backbone.model
    hidden = model(input_ids=tokens, output_hidden_states=True).hidden_states
    found = collect_statistics(structure, tokens, WANTED)
    for index, layer in enumerate(structure.backbone.layers):
        norm = layer.get_submodule("input_layernorm").weight
        states = hidden[index].double()
        scale = states.square().mean(dim=-1, keepdim=True) + model.config.rms_norm_eps
        expected = (states / scale.sqrt() * norm).square().mean(dim=(0, 1))
        moment = found[index]["input_second_moment", "self_attn.q_proj"]
        torch.testing.assert_close(moment.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", [llama, opt], ids=["llama", "opt"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
@torch.inference_mode()
def test_the_hidden_energy_is_a_median_over_all_tokens_whatever_the_batches(
    family: Callable[[], ModelStructure], batch_tokens: int
) -> None:
    structure, tokens = family(), tiny.windows(5, 9)  # 45 tokens: one in the middle
    found = collect_statistics(structure, tokens, WANTED, batch_tokens=batch_tokens)
    hidden = structure.backbone.model(input_ids=tokens, output_hidden_states=True).hidden_states
    for index, statistics in enumerate(found):
        energies = hidden[index].double().square().sum(dim=-1).flatten()
        expected = float(np.median(energies.numpy()))
        assert float(statistics["hidden_energy", ""]) == pytest.approx(expected, rel=1e-5)


def test_no_hook_stays_behind_even_where_the_pass_fails() -> None:
    structure = llama()
    collect_statistics(structure, tiny.windows(), WANTED)
    with pytest.raises(IndexError):
        collect_statistics(structure, torch.full((2, 4), VOCABULARY), WANTED)
    assert not any(m._forward_pre_hooks for m in structure.backbone.model.modules())


@pytest.mark.parametrize("family", [llama, opt, phi], ids=["llama", "opt", "phi"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
def test_moments_of_inputs_equal_those_of_inputs_caught_by_hand(
    family: Callable[[], ModelStructure], batch_tokens: int
) -> None:
    structure, tokens = family(), tiny.windows()
    seen = inputs_by_hand(structure, tokens)
    wanted: frozenset[StatisticName] = frozenset({"input_mean", "input_magnitude", "gram"})
    found = collect_statistics(structure, tokens, wanted, batch_tokens=batch_tokens)
    for component in structure.components:
        for projection in component.projections:
            at = projection.path
            inputs = seen[f"{structure.backbone.stack.path}.{component.layer}.{at}"]
            for name, expected in (
                ("input_mean", inputs.mean(dim=0)),
                ("input_magnitude", inputs.abs().mean(dim=0)),
                ("gram", inputs.t() @ inputs / len(inputs)),
            ):
                value = found[component.layer][cast("StatisticName", name), at]
                assert value.dtype == torch.float32
                # float32 sums over 48 tokens
                torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-5)
            assert ("input_second_moment", at) not in found[component.layer]


@pytest.mark.parametrize(
    ("family", "readers"),
    [
        (llama, [{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                 {"mlp.gate_proj", "mlp.up_proj"}]),
        (phi, [{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.fc1"}]),
    ],
    ids=["llama", "phi"],
)  # fmt: skip
def test_what_several_projections_read_is_measured_and_kept_once(
    family: Callable[[], ModelStructure], readers: list[set[str]]
) -> None:
    wanted: frozenset[StatisticName] = frozenset({"gram", "input_mean"})
    for layer in collect_statistics(family(), tiny.windows(), wanted, batch_tokens=12):
        for name in wanted:
            by_tensor: dict[int, set[str]] = {}
            for (at_name, path), value in layer.items():
                if at_name == name:
                    by_tensor.setdefault(id(value), set()).add(path)
            assert [group for group in by_tensor.values() if len(group) > 1] == readers


@torch.inference_mode()
def components_by_hand(structure: ModelStructure, tokens: Tensor) -> list[list[Tensor]]:
    """Hidden states of a Llama before its attention, before its MLP and after it.."""
    states = []
    model = structure.backbone.model
    hidden = model(input_ids=tokens, output_hidden_states=True).hidden_states
    caught: list[Tensor] = []
    layers = structure.backbone.layers
    hooks = [
        layer.get_submodule("post_attention_layernorm").register_forward_pre_hook(
            lambda _module, args: caught.append(args[0])
        )
        for layer in layers
    ]
    last: list[Tensor] = []
    hooks.append(model.get_submodule("model.norm").register_forward_pre_hook(
        lambda _module, args: last.append(args[0])))  # fmt: skip
    model(input_ids=tokens)
    for hook in hooks:
        hook.remove()
    after = [*hidden[1:-1], last[0]]
    for entering, between, leaving in zip(hidden, caught, after, strict=False):
        states.append([entering.double(), between.double(), leaving.double()])
    return states


@pytest.mark.parametrize("batch_tokens", [12, 4096])
def test_turns_of_hidden_states_equal_those_by_hand(batch_tokens: int) -> None:
    structure, tokens = llama(), tiny.windows()
    found = collect_statistics(structure, tokens, OF_HIDDEN, batch_tokens=batch_tokens)
    states = components_by_hand(structure, tokens)
    assert len(states) == len(found)
    for layer, (entering, between, leaving) in zip(found, states, strict=True):
        for part, before, after in (
            ("", entering, leaving),
            ("attention", entering, between),
            ("mlp", between, leaving),
        ):
            sizes = before.norm(dim=-1) * after.norm(dim=-1)
            cosine = (before * after).sum(dim=-1) / sizes
            similarity = float(layer["similarity", part])
            assert similarity == pytest.approx(float(cosine.mean()), rel=1e-5)
            angle = np.arccos(cosine.numpy()).mean() / np.pi
            assert float(layer["angle", part]) == pytest.approx(angle, rel=1e-4)


def test_a_layer_that_does_nothing_turns_nothing() -> None:
    structure = tiny.llama()
    with torch.no_grad():
        for path in ("self_attn.o_proj", "mlp.down_proj"):
            matrix(structure.backbone.layers[1].get_submodule(path)).zero_()
    layer = collect_statistics(structure, tiny.windows(), OF_HIDDEN)[1]
    for part in ("", "attention", "mlp"):
        assert float(layer["similarity", part]) == pytest.approx(1.0)
        assert float(layer["angle", part]) == pytest.approx(0.0, abs=1e-7)


def test_how_many_tokens_were_seen_and_layers_done_is_reported() -> None:
    progress = RecordedProgress()
    found = collect_statistics(llama(), tiny.windows(5, 9), frozenset(), progress=progress)
    assert [float(layer["tokens", ""]) for layer in found] == [45.0] * 3
    assert all(set(layer) == {("tokens", ""), ("hidden_energy", "")} for layer in found)
    assert progress.counts == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("shape", [(0, 8), (2, 0)])
def test_no_text_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="need windows of calibration text"):
        collect_statistics(llama(), torch.zeros(shape, dtype=torch.long), WANTED)


def test_outputs_are_what_the_projections_gave_behind_the_first_tokens() -> None:
    structure, tokens = llama(), tiny.windows()
    seen: dict[str, Tensor] = {}
    model = structure.backbone.model
    hooks = [
        module.register_forward_hook(lambda _m, _a, output, name=name: seen.update({name: output}))
        for name, module in model.named_modules()
        if name.endswith(("o_proj", "down_proj"))
    ]
    with torch.inference_mode():
        model(input_ids=tokens)
    for hook in hooks:
        hook.remove()
    found = collect_statistics(structure, tokens, frozenset({"component_output"}))
    for index, statistics in enumerate(found):
        for part, name in (("attention", "self_attn.o_proj"), ("mlp", "mlp.down_proj")):
            outputs = seen[f"model.layers.{index}.{name}"][:, 4:].flatten(0, 1)
            kept = statistics["component_output", part]
            assert kept.dtype == torch.bfloat16
            scale = float(outputs.abs().max())
            assert torch.allclose(kept.float(), outputs, atol=0.01 * scale)


def test_so_many_outputs_are_kept_as_a_square_map_needs() -> None:
    structure = llama()
    hidden = structure.backbone.model.config.hidden_size
    tokens = tiny.windows().repeat(40, 4)
    found = collect_statistics(structure, tokens, frozenset({"component_output"}))
    rows = len(found[0]["component_output", "mlp"])
    assert 8 * hidden <= rows < 8 * hidden + len(tokens)
