"""What users of transformers do with a model they can do with an export, of our code or stock."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tests.planner.export.exports import Exported, assert_close, assert_same_logits, logits_of


@pytest.fixture(params=["custom", "stock"])
def exported(request: pytest.FixtureRequest) -> Exported:
    of_a_kind = request.getfixturevalue(request.param)
    assert isinstance(of_a_kind, Exported)
    return of_a_kind


def loaded(exported: Exported, **options: Any) -> Any:
    trust = not exported.cut.is_stock
    return AutoModelForCausalLM.from_pretrained(
        exported.folder, trust_remote_code=trust, **options
    )


def written(model: Any, prompt: Tensor, **options: Any) -> Any:
    return model.generate(
        prompt,
        max_new_tokens=6,
        min_new_tokens=6,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
        **options,
    )


def test_a_static_cache_writes_what_a_growing_one_does(exported: Exported) -> None:
    model = loaded(exported)
    growing = written(model, exported.tokens)
    fixed = written(model, exported.tokens, cache_implementation="static")
    assert type(fixed.past_key_values).__name__ == "StaticCache"
    assert torch.equal(growing.sequences, fixed.sequences)
    assert_close(torch.stack(fixed.logits), torch.stack(growing.logits))


def test_a_left_padded_batch_writes_what_its_rows_do(exported: Exported) -> None:
    model, padding = exported.model, 5
    long, short = exported.tokens[:1], exported.tokens[1:, padding:]
    batch = torch.cat([long, functional.pad(short, (padding, 0))])
    mask = torch.ones_like(batch)
    mask[1, :padding] = 0
    together = written(model, batch, attention_mask=mask)
    for row, prompt in enumerate((long, short)):
        alone = written(model, prompt)
        assert_close(torch.stack(together.logits)[:, row], torch.stack(alone.logits)[:, 0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_kinds_of_attention_give_the_same(exported: Exported, attention: str) -> None:
    model = loaded(exported, attn_implementation=attention)
    assert model.config._attn_implementation == attention
    assert_same_logits(model, exported)


def test_saving_it_again_keeps_its_logits(exported: Exported, tmp_path: Path) -> None:
    exported.model.save_pretrained(tmp_path)
    trust = not exported.cut.is_stock
    again = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=trust)
    assert torch.equal(
        logits_of(again, exported.tokens), logits_of(exported.model, exported.tokens)
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft asks it
def test_adapters_are_trained_and_loaded(exported: Exported, tmp_path: Path) -> None:
    projections = ["q_proj", "v_proj", "down_proj"]
    torch.manual_seed(0)
    tuned = get_peft_model(loaded(exported), LoraConfig(r=2, target_modules=projections))
    optimizer = torch.optim.SGD(
        [weight for weight in tuned.parameters() if weight.requires_grad], lr=0.1
    )
    losses = []
    for _ in range(3):
        loss = tuned(input_ids=exported.tokens, labels=exported.tokens).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    adapted = {
        name.rpartition(".lora_B")[0]: weight.grad is not None and bool(weight.grad.any())
        for name, weight in tuned.named_parameters()
        if "lora_B" in name
    }
    kept = [name for name in exported.cut.weights if name.split(".")[-2] in projections]
    assert len(adapted) == len(kept)
    assert all(adapted.values())
    tuned.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(loaded(exported), tmp_path)
    assert_close(logits_of(again, exported.tokens), logits_of(tuned.eval(), exported.tokens))
