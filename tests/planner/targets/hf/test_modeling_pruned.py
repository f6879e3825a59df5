"""An export with holes of every kind computes, caches and costs what was promised."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache

from evaluators.costs.cost_model import CostModel
from search_spaces.models.stored import StoredFormat
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, masked_logits
from tests.models.families import Family
from tests.planner.export.exports import Exported, assert_close, assert_same_logits, logits_of


def costs(exported: Exported, context: int) -> dict[str, float]:
    blocks = exported.structure.components
    counts = np.array([[len(exported.plan.sites[block.name].units) for block in blocks]])
    model = CostModel(
        exported.structure, stored=StoredFormat(dtype=torch.float32), context=context
    )
    return {name: float(cost[0]) for name, cost in model.costs(counts).items()}


def load_again(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def test_logits_are_those_of_the_scored_candidate_and_of_the_masked_model(
    family: Family, structure: ModelStructure, exported: Exported
) -> None:
    got = logits_of(exported.model, exported.tokens)
    assert_close(got, exported.expected)
    assert_close(got, masked_logits(family, structure, irregular_plan(family), exported.tokens))


def test_generation_is_the_same_with_and_without_a_cache(exported: Exported) -> None:
    prompt = exported.tokens[:1]
    outputs = [
        exported.model.generate(
            prompt, max_new_tokens=6, min_new_tokens=6, do_sample=False, use_cache=use_cache
        )
        for use_cache in (True, False)
    ]
    assert outputs[0].shape == (1, prompt.shape[1] + 6)
    assert torch.equal(*outputs)


def test_a_left_padded_batch_generates_what_its_rows_do(exported: Exported) -> None:
    long, short = exported.tokens[:1], exported.tokens[1:, :7]
    padding = long.shape[1] - short.shape[1]
    batch = torch.cat([long, functional.pad(short, (padding, 0))])
    mask = torch.ones_like(batch)
    mask[1, :padding] = 0
    options = {
        "max_new_tokens": 3,
        "min_new_tokens": 3,
        "do_sample": False,
        "output_logits": True,
        "return_dict_in_generate": True,
    }
    together = exported.model.generate(batch, attention_mask=mask, **options)
    for row, prompt in enumerate((long, short)):
        alone = exported.model.generate(prompt, **options)
        for got, expected in zip(together.logits, alone.logits, strict=True):
            assert_close(got[row], expected[0])


def test_weights_cost_what_was_promised(exported: Exported) -> None:
    promised = costs(exported, context=1)
    assert sum(weight.numel() for weight in exported.model.parameters()) == promised["params"]
    stored = load_file(exported.folder / "model.safetensors")
    written = sum(weight.nbytes for weight in stored.values())
    assert written == promised["size"]


def test_multiply_accumulates_are_those_that_torch_counts(exported: Exported) -> None:
    tokens = exported.tokens[:1]
    length = tokens.shape[1]
    model = load_again(exported.folder)
    model.set_attn_implementation("eager")  # whose two products the counter sees
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        model(tokens, use_cache=False)
    positions = sum(
        sum(flops.values())
        for path, flops in counter.get_flop_counts().items()
        if path.endswith("rotary_emb")  # tables of angles, not part of any layer
    )
    counted = counter.get_total_flops() - positions
    assert counted / 2 / length == costs(exported, context=length)["macs"]


def test_the_cache_grows_by_the_bytes_promised(exported: Exported) -> None:
    tokens = exported.tokens[:1, :3]  # below every sliding window
    cache: Any = DynamicCache(config=exported.model.config)
    with torch.inference_mode():
        exported.model(tokens, past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held / tokens.shape[1] == costs(exported, context=1)["kv"]
    attentions = sum(
        bool(kept.kept) for name, kept in exported.plan.sites.items() if "attention" in name
    )
    assert len(cache.layers) == attentions


def test_saving_again_keeps_it(exported: Exported, tmp_path: Path) -> None:
    exported.model.save_pretrained(tmp_path / "again")
    again = load_again(tmp_path / "again")
    assert torch.equal(
        logits_of(again, exported.tokens), logits_of(exported.model, exported.tokens)
    )


def test_another_attention_function_gives_the_same(exported: Exported) -> None:
    model = load_again(exported.folder)
    model.set_attn_implementation("eager")
    names = {
        module.config._attn_implementation
        for module in model.modules()
        if hasattr(module, "config")
    }
    assert names == {"eager"}
    assert_same_logits(model, exported)


def test_auto_model_loads_the_body(exported: Exported) -> None:
    body = AutoModel.from_pretrained(exported.folder, trust_remote_code=True)
    with torch.inference_mode():
        got = body(exported.tokens, use_cache=False).last_hidden_state
        model = exported.model
        expected = getattr(model, model.base_model_prefix)(exported.tokens, use_cache=False)
    assert torch.equal(got, expected.last_hidden_state)
