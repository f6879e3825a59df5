"""An export gives and answers all that a stock model does, whatever differs by layer."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tests.models.factory import VOCABULARY
from tests.models.families import Family
from tests.models.parts import attention_of
from tests.planner.export.exports import Exported

ASKED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "model_type",
)
"""What serving, evaluation and fine-tuning tools ask of a config."""


def load_again(folder: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    return model


def test_a_hidden_state_comes_of_each_layer_that_the_config_counts(exported: Exported) -> None:
    model = exported.model
    blocks: list[Tensor] = []
    stack = model.get_submodule(exported.structure.backbone.stack.path)
    hooks = [
        block.register_forward_hook(
            lambda _block, _args, out: blocks.append(out[0] if isinstance(out, tuple) else out)
        )
        for block in stack
    ]
    try:
        with torch.inference_mode():
            output = model(exported.tokens, output_hidden_states=True, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    states = output.hidden_states
    with torch.inference_mode():
        as_tuple = model.base_model(
            exported.tokens, output_hidden_states=True, use_cache=False, return_dict=False
        )
    assert len(as_tuple[1]) == len(states)
    assert len(states) == model.config.num_hidden_layers + 1 == len(blocks) + 1
    for state, block in zip(states[1:-1], blocks, strict=False):  # the last is behind the norm
        assert torch.equal(state, block)


def test_attention_weights_come_of_each_layer(exported: Exported) -> None:
    model = load_again(exported.folder)
    model.set_attn_implementation("eager")
    with torch.inference_mode():
        attentions = model(exported.tokens, output_attentions=True).attentions
    components = [attention_of(layer) for layer in exported.structure.layers]
    kept = [len(exported.plan.sites[part.name].units) for part in components]
    heads = [
        part.core_features // part.cached_features * count
        for part, count in zip(components, kept, strict=True)
        if count
    ]
    assert [weights.shape[1] for weights in attentions] == heads


def test_a_config_answers_what_tools_ask(exported: Exported) -> None:
    dense = exported.structure.backbone.model.config
    config = AutoConfig.from_pretrained(exported.folder, trust_remote_code=True)
    for asked in (config, config.get_text_config(), exported.model.config):
        for name in ASKED:
            if name not in {"num_hidden_layers", "head_dim", "model_type"}:
                assert getattr(asked, name, None) == getattr(dense, name, None)
        assert getattr(asked, "num_hidden_layers", None) == 3
        assert "num_attention_heads" in str(asked)
    assert exported.model.base_model_prefix
    assert exported.model.get_input_embeddings() is not None
    assert exported.model._no_split_modules == exported.structure.backbone.model._no_split_modules


def test_a_tokenizer_loads_without_our_code(exported: Exported, tmp_path: Path) -> None:
    exported.model.save_pretrained(tmp_path)  # as one who has trained it would
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(exported.folder / name, tmp_path / name)
    for folder in (exported.folder, tmp_path):
        assert len(AutoTokenizer.from_pretrained(folder, trust_remote_code=False)) == VOCABULARY


def test_an_export_can_be_trained(family: Family, exported: Exported) -> None:
    model = load_again(exported.folder)
    model.train()
    losses = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(0)  # of dropout
        loss = model(exported.tokens, labels=exported.tokens).loss
        loss.backward()
        losses.append(loss.item())
        first = next(model.get_submodule(exported.structure.backbone.stack.path).parameters())
        assert first.grad is not None
        assert first.grad.any()
    if family.name not in {"gpt2", "opt", "opt-post-norm", "phi", "neox"}:  # they have dropout
        assert losses[0] == pytest.approx(losses[1])
