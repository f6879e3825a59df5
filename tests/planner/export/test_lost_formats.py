"""Formats that a target does not keep: it is proved to compute what their rounded numbers do."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from planner.export.lost_formats import lost_formats, rounded_as_written_
from planner.export.reference import Reference
from planner.targets.cut_layers import logits_of_layers
from planner.targets.gguf.gguf_target import GgufTarget
from planner.targets.hf.hf_target import HfTarget
from planner.targets.hf.loaded_folder import load_export
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.families import FAMILIES
from tests.planner.export.exports import ROUNDING, Units, plan_of
from tests.planner.targets.in_formats import in_formats

CHOSEN = {"attention": "Q8_0", "mlp": "int4", "embedding": "Q4_1"}


def with_formats(structure: ModelStructure, kept: list[Units]) -> Plan:
    plan = plan_of(structure, kept)
    sites = {
        name: each.model_copy(update={"format": CHOSEN.get(name.rpartition(".")[2], "")})
        for name, each in plan.sites.items()
    }
    return plan.model_copy(update={"sites": sites, "weights_digest": "cafe"})


def test_what_is_written_dequantised_is_proved_as_it_is_rounded(
    tokenizer: Any, tmp_path: Path
) -> None:
    structure = FAMILIES["llama"].structure(
        hidden_size=128, head_dim=32, intermediate_size=128, tie_word_embeddings=True, layers=2
    )
    model = structure.backbone.model
    for weight in model.parameters():
        weight.data = weight.data.bfloat16().float()
    loaded = LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.bfloat16),
        identity=identify(model),
    )
    with_ends = structure.with_ends()
    kept = [np.arange(component.member_count) for component in with_ends.components]
    plan = with_formats(with_ends, kept)
    cut = in_formats(structure, kept[: len(structure.components)], CHOSEN)
    tokens = random_tokens()
    before = model(tokens).logits
    scored = logits_of_layers(cut.structure, cut.layers, tokens)
    reference = Reference(tokens=tokens, logits=scored, room=0)

    lost = [component.name for component in lost_formats(plan, HfTarget(), with_ends)]
    assert lost == ["layers.0.attention", "layers.1.attention", "embedding"]
    found = rounded_as_written_(plan, HfTarget(), cut, reference, loaded)
    allowed = ROUNDING * float(scored.std())
    # scales of 16 bits times integers take more digits than bfloat16 has
    assert 5 * allowed < float((found.logits - scored).abs().max()) < 0.1 * float(scored.std())
    assert torch.equal(model(tokens).logits, before)
    HfTarget().write(tmp_path, cut, loaded, None)
    with torch.inference_mode():
        exported = load_export(tmp_path)(tokens).logits
    assert float((exported - found.logits).abs().max()) < allowed


def test_a_target_that_keeps_all_is_proved_by_what_was_scored() -> None:
    structure = FAMILIES["llama"].structure().with_ends()
    kept = [np.arange(component.member_count) for component in structure.components]
    plan = with_formats(structure, kept)
    sites = {
        name: each.model_copy(update={"format": each.format.replace("int4", "Q5_0")})
        for name, each in plan.sites.items()
    }
    plan = plan.model_copy(update={"sites": sites})
    assert not [*lost_formats(plan, GgufTarget(), structure)]
