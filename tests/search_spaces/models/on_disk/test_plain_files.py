"""Files that cannot be read as what they should be are refused for the reason."""

import os
from pathlib import Path

import pytest

from search_spaces.errors import ModelError
from search_spaces.models.on_disk import plain_files
from search_spaces.models.on_disk.plain_files import lies_inside, read_json
from tests.models.damage import said_of

FILES = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b'{"a": 1,\n', "breaks off or errs in line 2"),
        (b'\xef\xbb\xbf{"a": 1}', "begins with a byte order mark"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
        (b"[]", "holds a list"),
        (b"3", "holds a number"),
        (b"null", "holds a null"),
        (b"[" * 100_000, "holds what no model does"),
        (b'{"a": ' + b"9" * 5000 + b"}", "holds what no model does"),
    ],
)
def test_json_that_is_no_object(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ModelError, match=f"a.json` must hold a JSON object, and it {said}"):
        read_json(tmp_path / "a.json")


def test_json_beyond_a_bound_is_not_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_files, "LARGEST_JSON_BYTES", 2**20)
    (tmp_path / "a.json").write_bytes(b"{" + b" " * 2**20 + b"}")
    with pytest.raises(ModelError, match="has more than 1 MiB"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("name", [*FILES, "tokenizer_config.json", "chat_template.jinja"])
def test_a_folder_in_the_place_of_a_file(name: str, llama_copy: Path) -> None:
    (llama_copy / name).unlink(missing_ok=True)
    (llama_copy / name).mkdir()
    assert f"{name}` is a folder" in said_of(llama_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_may_not_be_read_is_not_called_missing(
    name: str, llama_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name == "tokenizer.json":  # which a library reads; it fails over what is wrong with it
        (llama_copy / name).write_text("{}", encoding="utf-8")
    real = Path.open

    def closed(path: Path, *arguments: object, **options: object) -> object:
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", closed)
    said = said_of(llama_copy)
    assert "there is no permission to read" in said
    assert f"{name}`; change its mode" in said


@pytest.mark.parametrize("name", [*FILES, "chat_template.jinja"])
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_what_may_never_end_is_not_opened(name: str, kind: str, llama_copy: Path) -> None:
    (llama_copy / name).unlink(missing_ok=True)
    if kind == "a pipe":
        os.mkfifo(llama_copy / name)
    else:
        (llama_copy / name).symlink_to("/dev/zero")
    assert f"{name}` is a pipe or a device" in said_of(llama_copy)


def test_a_link_to_nothing_is_called_that(llama_copy: Path) -> None:
    (llama_copy / "config.json").unlink()
    (llama_copy / "config.json").symlink_to("nowhere.json")
    assert "is a link to nothing" in said_of(llama_copy)


def test_a_cache_of_the_hub_lies_inside_with_its_blobs(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "m" / "snapshots" / "1", tmp_path / "m" / "blobs"
    for folder in (snapshot, blobs, tmp_path / "blobs"):
        folder.mkdir(parents=True)
    for target, inside in ((blobs / "a", True), (tmp_path / "blobs" / "a", False)):
        link = snapshot / str(inside)
        link.symlink_to(target)
        assert lies_inside(snapshot, link) is inside
