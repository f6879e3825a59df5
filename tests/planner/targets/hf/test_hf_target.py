"""Folders are served as clients load them: exports exactly, dense models whatever lies in them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from evaluators.latency.workload import Workload
from planner.targets.cut_layers import cut_layers
from planner.targets.hf.hf_target import HfTarget
from search_spaces.errors import VerificationError
from search_spaces.models.loading import LoadedModel
from search_spaces.space.plan import Plan
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import ModelStructure
from tests.models.moe_families import mixture
from tests.planner.export.exports import Exported, assert_close, logits_of
from tests.planner.targets.plans import alike


@pytest.fixture(params=["custom", "stock"])
def exported(request: pytest.FixtureRequest) -> Exported:
    of_a_kind = request.getfixturevalue(request.param)
    assert isinstance(of_a_kind, Exported)
    return of_a_kind


def test_it_gives_logits_steps_and_tokens(exported: Exported) -> None:
    tokens = exported.tokens.numpy()
    with HfTarget().serve(exported.folder, threads=1, exact=True) as served:
        whole = torch.from_numpy(served.logits(tokens))
        stepped = torch.from_numpy(served.stepped_logits(tokens))
        written = served.greedy(tokens[0].tolist(), 5)
        latency = served.time(Workload(prompt_tokens=4, new_tokens=2))
    assert_close(whole, exported.expected)
    assert_close(stepped, whole[:, -stepped.shape[1] :])
    options = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    assert written == exported.model.generate(exported.tokens[:1], **options)[0, -5:].tolist()
    assert latency.prefill_ms > 0 < latency.decode_ms


def test_it_is_served_in_the_dtype_that_is_asked_for(exported: Exported) -> None:
    tokens = exported.tokens
    with HfTarget(dtype="bfloat16").serve(exported.folder, threads=1) as served:
        got = torch.from_numpy(served.logits(tokens.numpy()))
    expected = logits_of(exported.model, tokens)
    gap = float((got - expected).abs().max() / expected.std())
    assert 1e-3 < gap < 0.1
    assert torch.equal(got, got.bfloat16().float())


def test_weights_that_are_left_over_are_a_dense_models_alone(
    saved_llama: Path, tmp_path: Path
) -> None:
    for path in saved_llama.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    stored = load_file(tmp_path / "model.safetensors")
    weights = {**stored, "model.layers.0.more": torch.ones(2)}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with HfTarget().serve(tmp_path, threads=1) as served:
        assert served.logits(np.array([[3, 4]])).shape == (1, 2, 96)
    with (
        pytest.raises(VerificationError, match=r"unexpected_keys \['model\.layers\.0\.more'\]"),
        HfTarget().serve(tmp_path, threads=1, exact=True),
    ):
        pass


def test_a_card_says_what_vllm_does_not_run(loaded_llama: LoadedModel, tmp_path: Path) -> None:
    structure = mixture("mixtral")
    plan = alike(structure, "experts", 6)
    for name, differs in (("alike", False), ("differ", True)):
        chosen = with_top_k(structure, plan, 1 if differs else 0)
        folder = tmp_path / name
        folder.mkdir()
        told = HfTarget().write(folder, cut_layers(structure, chosen), loaded_llama, None)
        assert ("vLLM does not load it" in told.loading) is differs
        assert ("vllm serve FOLDER" in told.loading) is not differs


def with_top_k(structure: ModelStructure, plan: Plan, top_k: int) -> Plan:
    """Run so many experts in the first layer that has some."""
    name = mixtures_of(structure.components)[0].name
    changed = plan.sites[name].model_copy(update={"top_k": top_k})
    sites: dict[str, Any] = {**plan.sites, name: changed}
    return plan.model_copy(update={"sites": sites})
