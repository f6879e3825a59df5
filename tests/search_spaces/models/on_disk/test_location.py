"""A name that is no model is refused for what it is."""

from pathlib import Path

import pytest

from search_spaces.models.on_disk.location import locate_source
from tests.models.damage import edit_json, said_of


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must be a HuggingFace folder, a hub name or a .gguf file, got ``"),
        (" ", "got ` `"),
        ("a\0b", "got `a�b`"),
        ("x" * 300, "at most 1024 characters, 255 in each part of its path, got 300"),
        ("é" * 200, "255 in each part"),
        ("a/" * 600, "at most 1024 characters"),
        ("~nosuchuser/m", "`~nosuchuser/m` names one who has none here"),
        ("./nowhere", "`./nowhere` does not exist"),
        ("a/b/c", "`a/b/c` does not exist"),
        ("nowhere.gguf", "`nowhere.gguf` does not exist"),
        ("nobody/nothing", "`nobody/nothing` is no folder here and the hub has no such model"),
        ("no hub name", "the hub's names are of another form"),
        ("two\nlines", "`two�lines` is no folder here"),
    ],
)
def test_names_of_nothing(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in said_of(name)


def test_what_is_there_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "empty").mkdir()
    for name, said in (
        ("file", "is none of these"),
        ("dangling", "is a link to nothing"),
        ("circle", "is a link in a circle"),
        ("empty", "must hold `config.json`, and"),
    ):
        assert said in said_of(tmp_path / name)


def test_a_home_is_written_out(saved_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved_llama.parent))
    assert locate_source(f"~/{saved_llama.name}") == str(saved_llama)


def test_a_folder_whose_name_begins_with_a_tilde(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "~tiny").symlink_to(saved_llama)
    monkeypatch.chdir(tmp_path)
    assert locate_source("~tiny") == "~tiny"
    monkeypatch.chdir(saved_llama)
    assert locate_source(".") == "."


def test_an_adapter_is_refused_with_what_to_merge(llama_copy: Path) -> None:
    edit_json(llama_copy / "adapter_config.json", base_model_name_or_path="meta/base")
    assert locate_source(str(llama_copy)) == str(llama_copy)  # left behind by a merge
    (llama_copy / "adapter_model.safetensors").touch()
    assert "is an adapter of `meta/base`; merge the two" in said_of(llama_copy)
    (llama_copy / "adapter_model.safetensors").unlink()
    (llama_copy / "config.json").unlink()
    assert "is an adapter of `meta/base`; merge the two" in said_of(llama_copy)
    (llama_copy / "adapter_config.json").write_text("[]", encoding="utf-8")
    assert "adapter_config.json` must hold a JSON object" in said_of(llama_copy)


@pytest.mark.parametrize("place", ["iterdir", "stat"])
def test_a_closed_folder_is_refused_as_that(
    place: str, llama_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(Path, place)

    def closed(path: Path, **options: object) -> object:
        if path == llama_copy:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, place, closed)
    assert "there is no permission to read" in said_of(llama_copy)
