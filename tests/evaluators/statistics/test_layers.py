from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evaluators.statistics import collect_statistics
from search_spaces.statistics import StatisticName
from search_spaces.structure.read import ModelStructure
from tests.evaluators import tiny

WANTED: frozenset[StatisticName] = frozenset({"input_second_moment"})
llama, opt = cache(tiny.llama), cache(tiny.opt)


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
        paths = [p.path for block in (layer.attention, layer.mlp) for p in block.projections]
        names = [
            ("hidden_energy", ""),
            ("tokens", ""),
            *(("input_second_moment", path) for path in paths),
        ]
        assert sorted(found[index]) == sorted(names)
        for path in paths:
            inputs = seen[f"{structure.backbone.stack_path}.{index}.{path}"]
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
        collect_statistics(structure, torch.full((2, 4), tiny.VOCABULARY), WANTED)
    assert not any(m._forward_pre_hooks for m in structure.backbone.model.modules())
