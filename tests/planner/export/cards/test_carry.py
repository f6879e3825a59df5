"""What belongs to a model goes with what is made of it, all else does not; it loads as said."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from planner.export.cards.manifest import Manifest, describe_files
from planner.export.run_exports import export_from_model
from planner.settings.search import SearchSettings
from planner.settings.to_moe import ToMoeSettings
from planner.to_moe.convert import convert_to_moe
from search_spaces.errors import OutputError
from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, shorter_plan
from tests.models.families import FAMILIES
from tests.planner.export.exports import plan_of

NAME = "own\n# Trusted | `by` *everyone* $x$ 🦙"
HEAD = """\
---
license: other
license_name: tiny-licence
license_link: LICENSE
base_model: org/tiny
language: [en, no]
tags: [chat, gguf]
---
# Tiny
"""
PAPERS = ("LICENSE", "NOTICE")
TEMPLATES = {"default": "{{ messages }}", "tool_use": "tools {{ messages }}"}
KINDS = ("stock", "custom", "moe")


def changed(path: Path, **values: Any) -> None:
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(content | values), encoding="utf-8")


@pytest.fixture(scope="module")
def source(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with all that may lie beside one, and a name to break cards with."""
    folder = Path(shutil.copytree(saved_llama, tmp_path_factory.mktemp("source") / NAME))
    (folder / "README.md").write_text(HEAD, encoding="utf-8")
    for name in (*PAPERS, "tokenizer.model"):
        (folder / name).write_text("keep me")
    changed(
        folder / "config.json",
        auto_map={"AutoConfig": "gone.Config", "AutoModelForCausalLM": "gone.Model"},
        custom_pipelines={"own": {"impl": "gone.Pipeline"}},
        num_nextn_predict_layers=1,
        _name_or_path=str(folder),
    )
    named = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    changed(
        folder / "tokenizer_config.json",
        chat_template=named,
        auto_map={"AutoTokenizer": [None, "gone.Tokenizer"]},
    )
    changed(folder / "generation_config.json", do_sample=False, temperature=0.5, eos_token_id=2)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest,
    source: Path,
    llama: ModelStructure,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Path]:
    """A stock export, one with code of ours, and a mixture of experts, under an own umask."""
    kind, place = str(request.param), tmp_path_factory.mktemp("made")
    before = os.umask(0o002)
    try:
        if kind == "moe":
            few: Any = {"experts": 4, "calibration_windows": 4, "window_tokens": 32}
            settings = ToMoeSettings.checked(model=str(source), **few)
            return kind, convert_to_moe(settings, place / kind)
        kept = (shorter_plan if kind == "stock" else irregular_plan)(FAMILIES["llama"])
        plan = place / "plan.json"
        plan.write_text(plan_of(llama, kept).to_json(), encoding="utf-8")
        return kind, export_from_model(SearchSettings(model=str(source)), plan, place / kind)
    finally:
        os.umask(before)


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_lines_of_the_card_run_as_printed(made: tuple[str, Path]) -> None:
    kind, folder = made
    card = card_of(folder)
    lines = card.split("```python\n")[1].split("```")[0]
    assert lines.count("trust_remote_code=True") == (2 if kind == "custom" else 0)
    namespace: dict[str, Any] = {"FOLDER": str(folder)}
    exec(lines, namespace)
    assert namespace["model"].config.vocab_size == 96
    assert namespace["tokenizer"]("w3 w95").input_ids == [3, 95]
    assert namespace["tokenizer"].chat_template == TEMPLATES


def test_its_papers_are_there(made: tuple[str, Path]) -> None:
    _, folder = made
    for name in (*PAPERS, "tokenizer.model"):
        assert (folder / name).read_text() == "keep me"
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert {*PAPERS, "tokenizer.model", "config.json"} <= content["files"].keys()
    described = describe_files(folder)
    assert described.keys() - content["files"].keys() == {"README.md", "manifest.json"}
    assert content["origin"]["papers"] == list(PAPERS)


def test_the_card_tells_its_licence_and_base(made: tuple[str, Path]) -> None:
    _, folder = made
    card = card_of(folder)
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["license"] == "other"
    assert head["license_name"] == "tiny-licence"
    assert head["base_model"] == "org/tiny"
    assert head["language"] == ["en", "no"]
    assert "chat" in head["tags"]
    assert "gguf" not in head["tags"]
    assert "`tiny-licence`; see `LICENSE`, `NOTICE`. Base model: `org/tiny`." in card
    assert str(folder.parent) not in card


def test_a_name_adds_no_line_to_the_card(made: tuple[str, Path]) -> None:
    _, folder = made
    headings = [line for line in card_of(folder).splitlines() if line.startswith("#")]
    assert len(headings) == 1
    assert headings[0].startswith(r"# own \# Trusted \| \`by\` \*everyone\* \$x\$ 🦙, ")


def test_nothing_is_said_that_holds_no_more(made: tuple[str, Path]) -> None:
    kind, folder = made
    text = (folder / "config.json").read_text(encoding="utf-8")
    config = json.loads(text)
    assert "gone" not in text
    assert str(folder.parent) not in text
    assert ("auto_map" in config) == (kind == "custom")
    assert "custom_pipelines" not in config
    assert not config.get("num_nextn_predict_layers")
    assert "auto_map" not in (folder / "tokenizer_config.json").read_text(encoding="utf-8")


def test_it_generates_as_the_dense_model_did(made: tuple[str, Path]) -> None:
    _, folder = made
    settings = GenerationConfig.from_pretrained(folder)
    assert settings.eos_token_id == 2
    assert settings.do_sample is False


def test_modes_follow_the_umask(made: tuple[str, Path]) -> None:
    _, folder = made
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()}
    assert set(modes.values()) == {"0o664"}, modes
    assert folder.stat().st_mode & 0o777 == 0o775


def test_no_home_is_needed(
    made: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from planner.targets.hf.loaded_folder import load_export

    _, folder = made
    nowhere = tmp_path / "file"
    nowhere.touch()
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", f"{nowhere}/modules")
    assert load_export(folder).config.vocab_size == 96


def test_a_stock_config_is_read_by_all(made: tuple[str, Path]) -> None:
    kind, folder = made
    if kind == "custom":
        assert "Loading takes `transformers>=5.15`." in card_of(folder)
        return
    config = AutoConfig.from_pretrained(folder)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert written["rope_theta"] == config.rope_parameters["rope_theta"]
    make: Any = AutoModelForCausalLM.from_config
    assert written["architectures"] == [type(make(config)).__name__]
    for name in ("num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size"):
        assert isinstance(getattr(config, name, None), int)
    assert "Loading takes" not in card_of(folder)


def test_an_export_is_read_again(made: tuple[str, Path]) -> None:
    kind, folder = made
    loaded = load_model(str(folder), trust_remote_code=kind == "custom")
    structure = read_structure(loaded.model)
    if kind != "custom":
        assert len(structure.layers) == (4 if kind == "stock" else 6)


def test_a_manifest_is_read_again(made: tuple[str, Path]) -> None:
    kind, folder = made
    if kind != "moe":
        text = (folder / "manifest.json").read_text(encoding="utf-8")
        manifest = Manifest.model_validate_json(text)
        assert manifest.needs_remote_code == (kind == "custom")
        assert not manifest.tokenizer_needs_remote_code


@pytest.mark.parametrize("name", ["x" * 300, "x" * 240, "inside", "file/export"])
def test_a_place_that_cannot_be_is_refused_at_once(
    name: str, saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    out = saved_llama / name if name == "inside" else tmp_path / name
    monkeypatch.setattr("planner.export.run_exports.open_model", None)
    with pytest.raises(OutputError, match=r"name|outside|folder"):
        export_from_model(SearchSettings(model=str(saved_llama)), tmp_path / "no.json", out)


def test_a_link_to_nowhere_is_taken(saved_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="must not exist yet"):
        export_from_model(
            SearchSettings(model=str(saved_llama)), tmp_path / "no.json", tmp_path / "out"
        )
