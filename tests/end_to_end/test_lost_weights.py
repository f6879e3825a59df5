"""A run in bfloat16 whose weight cache was lost: the refused export says what restores it."""

import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from planner import Run, search
from planner.cli.main import main
from search_spaces.errors import RunError
from tests.models.factory import make_model, save_model
from tests.models.families import FAMILIES
from tests.settings import SHORT_TEXT

SMALL: dict[str, Any] = {
    "evaluations": 10,
    "population": 4,
    **SHORT_TEXT,
    "dtype": "bfloat16",
}
KINDS: dict[str, dict[str, Any]] = {
    "compensated": {"budget": "params<=0.8x", "compensate": "obs"},
    "sparse": {"budget": "nonzero<=0.6x", "space": "sparsity,2:4"},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model stored in bfloat16, so that float32 and bfloat16 read the same weights."""
    config = FAMILIES["llama"].config(layers=2)
    folder = tmp_path_factory.mktemp("models") / "llama"
    return save_model(make_model(config, dtype=torch.bfloat16), folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_advice_of_a_refused_export_restores_its_weights(
    kind: str, model: Path, tmp_path: Path
) -> None:
    run = search(str(model), out=tmp_path / "a run", **SMALL, **KINDS[kind])
    plan, scored = run.best(KINDS[kind]["budget"]).plan_id, len(run.landed())
    first = run.export(plan, tmp_path / "first")
    assert (run.folder / "levels").is_dir()
    shutil.rmtree(run.folder / "levels")
    shutil.rmtree(run.folder / "statistics", ignore_errors=True)
    with pytest.raises(RunError, match="the very weights that were scored") as refusal:
        run.export(plan, tmp_path / "second")
    run.close()

    said = "they were made in torch.bfloat16 on cpu, and would be others in torch.float32 on cpu"
    assert said in str(refusal.value)
    (command,) = refusal.value.__notes__
    program, *arguments = shlex.split(command)
    assert program == "planner"
    assert main(arguments) == 0

    with Run.open(tmp_path / "a run") as restored:
        assert len(restored.landed()) == scored  # nothing is searched again
        second = restored.export(plan, tmp_path / "second")
    expected, weights = (load_file(path / "model.safetensors") for path in (first, second))
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
