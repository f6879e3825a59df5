"""One whole run on real weights: SmolLM2-135M, from its file to a reloaded export."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from planner import Run, search
from planner.cli.commands.demo_command import BUDGET, PROMPT, demo_model

pytestmark = [pytest.mark.real, pytest.mark.arithmetic]
# each logit keeps 8 bits in bfloat16, and 192 tokens are averaged
ROUNDING = {"torch.float32": 1e-4, "torch.bfloat16": 2e-2}


@pytest.fixture(scope="module", autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(
        str(demo_model()),
        out=tmp_path_factory.mktemp("smollm2") / "run",
        budget=BUDGET,
        evaluations=14,
        population=8,
        search_windows=4,
        window_tokens=48,
        fresh_windows=4,
        calibration_windows=16,
        mlp_step=256,
        holdout_windows=4,
    )


@pytest.fixture(scope="module")
def exported(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run.export(run.best(BUDGET).plan_id, tmp_path_factory.mktemp("export") / "model")


def test_the_model_is_the_published_one(run: Run) -> None:
    # 28.3 M embedding, 30 layers of 0.885 M attention, 2.654 M MLP and two norms, one last norm
    layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    assert run.dense["params"] == 49152 * 576 + 30 * layer + 576
    assert run.dense["size"] == 2 * run.dense["params"]
    assert run.dense["kv"] == 30 * 2 * 192 * 2


def test_it_writes_text_that_it_finds_likely(run: Run) -> None:
    dense = run.front().iloc[0]
    # sampled from itself at temperature 1: about its own entropy, far from a broken model's 10.8
    assert 1.0 < dense["holdout_nll"] < 4.5


def test_the_front_falls_with_size(run: Run) -> None:
    frame = run.front()
    assert len(frame) >= 3
    assert frame["kl"].is_monotonic_increasing
    assert frame["params"].is_monotonic_decreasing


def test_the_export_is_as_small_as_promised(run: Run, exported: Path) -> None:
    promised = run.best(BUDGET).costs
    count = size = 0
    with safe_open(exported / "model.safetensors", framework="pt") as weights:
        for name in weights.keys():  # noqa: SIM118  (no mapping)
            tensor = weights.get_tensor(name)
            count += tensor.numel()
            size += tensor.nbytes
    assert (count, size) == (promised["params"], promised["size"])
    assert count <= 0.8 * run.dense["params"]


def test_the_export_was_proved_and_timed(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert 0 <= manifest["logit_gap"] <= manifest["logit_gap_allowed"] < 0.01
    assert manifest["service"]["latency"]["dense"]["decode_ms"] > 0
    assert manifest["holdout"]["kl"]["value"] > 0


def test_the_export_scores_what_the_search_scored(run: Run, exported: Path) -> None:
    """NLL of the reloaded model on the run's own held-out tokens, by transformers' own loss."""
    from evaluators.data.windows import Calibration

    tokens = Calibration.load(run.folder / "calibration.npz").holdout
    model = AutoModelForCausalLM.from_pretrained(
        exported, trust_remote_code=True, dtype=torch.float32
    )
    with torch.inference_mode():
        nll = float(model(tokens, labels=tokens).loss)
    # the same sum in another order, of logits that are as exact as the search's
    rounding = ROUNDING[run.arithmetic.split()[0]]
    assert nll == pytest.approx(run.best(BUDGET).holdout["nll"].value, abs=rounding)


def test_the_export_writes(exported: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(exported, trust_remote_code=True)
    model: Any = AutoModelForCausalLM.from_pretrained(
        exported, trust_remote_code=True, dtype=torch.float32
    )
    inputs = tokenizer(PROMPT, return_tensors="pt")
    cached = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    plain = model.generate(**inputs, max_new_tokens=8, do_sample=False, use_cache=False)
    assert cached.shape[1] == inputs["input_ids"].shape[1] + 8 or cached[0, -1] == 2
    assert torch.equal(cached, plain)
