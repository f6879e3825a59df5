from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.collectors import collect_statistics
from evaluators.collectors.leave_one_expert_out import measure_expert_removals
from evaluators.collectors.names import OF_EXPERT_REMOVAL, Key
from search_spaces.structure.expert_hooks import masked_router
from tests.evaluators.collectors.routed_text import LAYER, TOKENS, experts_of
from tests.models.moe_families import mixture


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v2", "gpt-oss", "phi-moe"])
def test_acceptance_is_lost_as_by_masking_the_expert_in_the_model(name: str) -> None:
    structure = mixture(name)
    experts = experts_of(structure)
    found = measure_expert_removals(structure, TOKENS)[LAYER]
    lost = found["expert_acceptance", experts.holder]
    model = structure.backbone.model
    dense = model(input_ids=TOKENS, use_cache=False).logits.softmax(dim=-1)
    layer = structure.backbone.layers[LAYER]
    for expert in range(experts.member_count):
        with masked_router(layer, experts, torch.arange(experts.member_count) == expert):
            drafted = model(input_ids=TOKENS, use_cache=False).logits.softmax(dim=-1)
        accepted = torch.minimum(dense, drafted).sum(dim=-1).mean()
        assert float(lost[expert]) == pytest.approx(1 - float(accepted), abs=2e-6)


def test_removals_in_small_parts_give_the_same() -> None:
    structure = mixture("qwen3-moe")
    whole = measure_expert_removals(structure, TOKENS)
    one_by_one = measure_expert_removals(structure, TOKENS, state_bytes=1)
    few = measure_expert_removals(structure, TOKENS, state_bytes=5 * TOKENS.numel() * 32 * 4)
    assert sorted(whole) == [0, 2, 3]
    for layer, own in whole.items():
        for key, value in own.items():
            assert torch.equal(one_by_one[layer][key], value)
            assert torch.equal(few[layer][key], value)


def test_fewer_windows_for_removals_are_another_measurement(tmp_path: Path) -> None:
    structure = mixture("mixtral")
    folder = tmp_path / "statistics"
    arguments: dict[str, Any] = {"names": OF_EXPERT_REMOVAL, "folder": folder}
    key: Key = ("expert_acceptance", "mlp.experts")
    few = collect_statistics(structure, TOKENS, removal_windows=1, **arguments)[LAYER][key].clone()
    more = collect_statistics(structure, TOKENS, removal_windows=3, **arguments)[LAYER][key]
    assert not torch.equal(few, more)
