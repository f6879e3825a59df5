"""From an export with our code to another: inspected, searched, exported, and loaded by others."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from planner import Run, search
from planner.cli.main import main
from search_spaces.errors import ModelError
from tests.settings import SMALL


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


@pytest.fixture
def export(searched_copy: Path, tmp_path: Path) -> Path:
    with Run.open(searched_copy) as run:
        return run.export(run.best(SMALL["budget"]).plan_id, tmp_path / "export")


def test_an_export_is_searched_and_exported_again(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "sublayers" in config_of(export)
    with pytest.raises(ModelError, match=r"must be trusted"):
        search(str(export), out=tmp_path / "run", **SMALL)
    assert main(["inspect", str(export), "--trust_remote_code"]) == 0
    assert "PrunedForCausalLM" in capsys.readouterr().out
    options = {**SMALL, "evaluations": 10, "compensate": "bias"}
    with search(str(export), out=tmp_path / "run", trust_remote_code=True, **options) as run:
        plan = run.best(SMALL["budget"]).plan_id
        again = run.export(plan, tmp_path / "again", trust_remote_code=True)
    before, after = config_of(export), config_of(again)
    assert after["wiring"]["dense"] == before["wiring"]["dense"]
    assert any(kinds for block in after["added_biases"] for kinds in block)
    model: Any = AutoModelForCausalLM.from_pretrained(again, trust_remote_code=True)
    tokens = AutoTokenizer.from_pretrained(again, trust_remote_code=False)(
        "the", return_tensors="pt"
    ).input_ids
    cached, not_cached = (
        model.generate(tokens, max_new_tokens=4, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, not_cached)
