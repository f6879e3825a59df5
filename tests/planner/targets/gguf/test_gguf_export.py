"""Exports through the one pipeline: proved in llama.cpp in a fresh process, or not there."""

from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader

from planner.export.cards.manifest import Manifest
from planner.export.run_exports import export_from_model
from planner.settings.search import SearchSettings
from planner.targets.gguf import gguf_block, gguf_target
from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_types import GgufType
from planner.targets.target_names import TargetChoice
from search_spaces.errors import TargetError, VerificationError
from tests.models.candidates import irregular_plan
from tests.models.families import FAMILIES, dense
from tests.models.merging_tokenizers import of_bytes
from tests.planner.export.exports import plan_of

GGUF = TargetChoice(name="gguf")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> SearchSettings:
    """Of a saved Llama whose tokenizer llama.cpp knows."""
    folder = tmp_path_factory.mktemp("models") / "llama"
    dense("llama").backbone.model.save_pretrained(folder)
    of_bytes().save_pretrained(folder)
    return SearchSettings(model=str(folder))


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """With holes of every kind."""
    path = tmp_path / "plan.json"
    made = plan_of(dense("llama"), irregular_plan(FAMILIES["llama"]))
    path.write_text(made.to_json(), encoding="utf-8")
    return path


def test_an_export_is_proved_and_measured_in_llama_cpp(
    settings: SearchSettings, plan: Path, tmp_path: Path
) -> None:
    choice = TargetChoice(name="gguf", options={"file_type": "Q8_0"})
    out = export_from_model(settings, plan, tmp_path / "export", choice=choice)
    manifest = Manifest.model_validate_json((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest.format == "gguf"
    # of the float32 file that was proved in its place, far below what is allowed
    assert 0 < manifest.logit_gap < 0.01 * manifest.logit_gap_allowed
    assert "model.gguf" in manifest.files
    assert manifest.service.runtime == "llama.cpp"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "in llama.cpp" in card
    assert "stands there" in card
    assert "xllamacpp" in card
    assert "rounded to Q8_0 and nothing else" in card


def test_a_file_that_computes_something_else_leaves_nothing(
    settings: SearchSettings, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # rows in the order of transformers are turned with the wrong neighbours
    monkeypatch.setattr(gguf_block, "_neighbours", lambda rows, _head_dim: rows)
    with pytest.raises(VerificationError, match="layer"):
        export_from_model(settings, plan, tmp_path / "export", choice=GGUF)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json"}


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_K_M"])
def test_a_fault_in_the_rounded_file_alone_leaves_nothing(
    kind: str,
    settings: SearchSettings,
    plan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []

    def spoiled(path: Path, model: GgufModel, number_type: GgufType, **more: Any) -> None:
        write_file(path, model, number_type, **more)
        if number_type == kind:
            reader = GGUFReader(path, "r+")
            matrices = (each for each in reader.tensors if each.name.startswith("blk.2."))
            tensor = next(each for each in matrices if len(each.shape) == 2 and each.data.any())
            tensor.data[:] = 0
            names.append(tensor.name)
            reader.data.flush()

    monkeypatch.setattr(gguf_target, "write_file", spoiled)
    choice = TargetChoice(name="gguf", options={"file_type": kind})
    with pytest.raises(VerificationError) as refusal:
        export_from_model(settings, plan, tmp_path / "export", choice=choice)
    assert f"`{names[0]}` in " in str(refusal.value)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json"}
    monkeypatch.undo()
    assert export_from_model(settings, plan, tmp_path / "export", choice=choice).is_dir()


def test_a_tokenizer_of_words_leaves_nothing(
    saved_llama: Path, plan: Path, tmp_path: Path
) -> None:
    of_words = SearchSettings(model=str(saved_llama))
    with pytest.raises(TargetError, match="this is a WordLevel"):
        export_from_model(of_words, plan, tmp_path / "export", choice=GGUF)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json"}
