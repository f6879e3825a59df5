"""A run's folder grants no trust: what its settings say of it counts for nothing."""

from pathlib import Path

import pytest

from planner import search
from planner.export.choose import Request, export_chosen
from planner.runs.run_store import RunStore
from search_spaces.errors import ModelError, RunError
from search_spaces.progress import NO_PROGRESS
from tests.models.damage import PLANTED_CODE, edit_json
from tests.settings import BUDGET, SMALL


@pytest.fixture
def mark(llama_copy: Path, searched_copy: Path, saved_llama: Path) -> Path:
    """What runs if the model of the copied run, whose settings trust it, is trusted."""
    mark = llama_copy.parent / "ran"
    code = PLANTED_CODE.replace("__MARK__", repr(str(mark)))
    (llama_copy / "own.py").write_text(code, encoding="utf-8")
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    edit_json(llama_copy / "config.json", model_type="own", auto_map=own)
    settings = searched_copy / "settings.yaml"
    text = settings.read_text(encoding="utf-8")
    assert str(saved_llama) in text
    assert "trust_remote_code: false" in text
    text = text.replace(str(saved_llama), str(llama_copy))
    text = text.replace("trust_remote_code: false", "trust_remote_code: true")
    settings.write_text(text, encoding="utf-8")
    return mark


def test_an_export_asks_for_trust_again(mark: Path, searched_copy: Path) -> None:
    assert not RunStore.open(searched_copy).settings.trust_remote_code
    with pytest.raises(ModelError, match="allow it with `--trust_remote_code`"):
        export_chosen(
            str(searched_copy),
            Request(budget=BUDGET),
            out=searched_copy.parent / "out",
            progress=NO_PROGRESS,
        )
    assert not mark.exists()


def test_resuming_asks_for_trust_again(mark: Path, searched_copy: Path, llama_copy: Path) -> None:
    with pytest.raises(RunError, match="`trust_remote_code` was True, now False"):
        search(str(llama_copy), out=searched_copy, resume=True, **SMALL)
    assert not mark.exists()
