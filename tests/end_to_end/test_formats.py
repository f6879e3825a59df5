"""Searches for number formats: scored as they are exported, and said in the plan."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from evaluators.metric import METRICS
from planner import Run, search
from planner.cli.commands.front_command import print_front
from planner.export.cards.manifest import Manifest
from planner.export.reference import logits_of
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from search_spaces.progress import NO_PROGRESS
from search_spaces.space.plan import Plan
from tests.models.moe_families import saved_mixture
from tests.settings import SHORT_TEXT

SMALL: dict[str, Any] = {
    "evaluations": 24,
    "population": 6,
    **SHORT_TEXT,
    "dtype": "float32",
}
KINDS: dict[str, dict[str, Any]] = {
    "alone": {"budget": "size<=0.5x", "space": "formats", "formats": "Q8_0,Q4_0"},
    "with widths": {"budget": "size<=0.3x", "space": "channels,drops,formats"},
    "sparse": {
        "budget": "packed<=0.4x",
        "space": "sparsity,formats",
        "formats": "Q8_0",
        "sparsity_step": 50,
    },
    "experts": {
        "model": "mixtral",
        "budget": "bits<=11",
        "space": "experts,formats",
        "formats": "Q8_0,Q5_0",
        "compensate": "merge",
    },
}


@pytest.fixture(scope="module", params=list(KINDS))
def run(request: pytest.FixtureRequest, saved_llama: Path, tmp_path_factory: Any) -> Run:
    out = tmp_path_factory.mktemp("runs") / request.param.replace(" ", "-")
    kind = dict(KINDS[request.param])
    family = kind.pop("model", None)
    model = saved_llama if family is None else saved_mixture(family, out.with_suffix(".model"))
    return search(str(model), out=out, **{**SMALL, **kind})


def test_what_was_scored_is_what_is_exported(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = run.best(run.settings.budget or "")
    assert best.holdout["kl"].value > 0
    out = run.export(best.plan_id, tmp_path / "model")
    plan = Plan.load(out / "plan.json")
    rounded = {name for name, kept in plan.sites.items() if kept.format and kept.kept}
    assert rounded
    assert {"embedding", "head"} & plan.sites.keys()
    assert plan.weights_digest

    dense = open_model(run.settings, NO_PROGRESS)
    prepared = prepare(dense, run.settings, run.folder, NO_PROGRESS)
    configurations = prepared.space.configurations_of(plan)
    tokens = torch.arange(12)[None] + 3
    with torch.inference_mode():
        expected = logits_of(prepared.sorted_model, configurations, tokens, prepared.layer_builder)
        exported = AutoModelForCausalLM.from_pretrained(
            out, trust_remote_code=True, dtype=torch.float32
        )
        torch.testing.assert_close(exported(tokens).logits, expected, rtol=0, atol=2e-5)

    manifest = Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8"))
    card = (out / "README.md").read_text(encoding="utf-8")
    notes = [note for note in manifest.notes if note.startswith("The matrices of")]
    assert len(notes) == len({plan.sites[name].format for name in rounded})
    assert all(note in card for note in notes)
    written = sum(weight.nbytes for weight in load_file(out / "model.safetensors").values())
    assert manifest.costs["size"] < written == manifest.written_size
    amount = METRICS["size"].amount(written)
    (row,) = (line for line in card.splitlines() if line.startswith("| weights on disk, as writ"))
    assert f" | {amount} | " in row
    assert "| weights on disk, were their formats kept | " in card
    assert "| weights on disk | " not in card

    print_front(run, run.settings.budget)
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "plain tensors" in line)
    assert f" about {amount}, " in said


def test_searches_without_formats_have_neither_embedding_nor_head(searched: Path) -> None:
    run = Run.open(searched)
    plan = run.stored_plan(run.best("params<=0.9x").plan_id)
    assert plan is not None
    assert {name.split(".")[0] for name in plan.sites} == {"layers"}
