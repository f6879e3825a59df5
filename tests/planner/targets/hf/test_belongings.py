"""Licences, notices and vocabularies are copied; code, weights and files of elsewhere are not."""

import os
from pathlib import Path

import pytest

from planner.targets.hf.belongings import carry, files_of, papers

BELONGS = [
    "LICENSE",
    "LICENSE.txt",
    "LICENCE.md",
    "LICENSE-MIT",
    "LICENSE.APACHE-2.0",
    "Llama-3.2_LICENSE.txt",
    "NOTICE",
    "Notice.txt",
    "USE_POLICY.md",
    "COPYING",
    "COPYRIGHT",
    "THIRD_PARTY_NOTICES",
    "tokenizer.model",
    "tokenizer.model.v3",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "qwen.tiktoken",
]
STAYS = [
    "license.py",
    "notice.safetensors",
    "pytorch_model.bin",
    "modeling_own.py",
    "training_args.bin",
    "optimizer.pt",
    "unlicensed.txt",
    ".env",
    "README.md",
    "generation.py",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", BELONGS)
def test_what_belongs_to_the_model_is_copied(name: str, source: Path, out: Path) -> None:
    (source / name).write_text("keep me")
    carry(source, out)
    assert (out / name).read_text() == "keep me"


def test_all_else_stays(source: Path, out: Path) -> None:
    for name in STAYS:
        (source / name).write_text("secret")
    (source / "LICENSES").mkdir()
    os.mkfifo(source / "NOTICE")  # which nothing may wait for
    carry(source, out)
    assert list(out.iterdir()) == []


def test_what_is_there_already_is_kept(source: Path, out: Path) -> None:
    (source / "vocab.json").write_text("old")
    (out / "vocab.json").write_text("new")
    carry(source, out)
    assert (out / "vocab.json").read_text() == "new"


def test_links_out_of_the_folder_are_not_followed(source: Path, out: Path) -> None:
    secret = source.parent / "id_rsa"
    secret.write_text("secret")
    (source / "LICENSE").symlink_to(secret)
    (source / "NOTICE").symlink_to(source / "nowhere")
    (source / "COPYING").write_text("fine")
    (source / "LICENSE.txt").symlink_to(source / "COPYING")
    carry(source, out)
    assert {path.name for path in out.iterdir()} == {"COPYING", "LICENSE.txt"}


def test_a_snapshot_of_the_hub_links_to_its_blobs(tmp_path: Path, out: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    blob = snapshot.parent.parent / "blobs" / "123"
    blob.parent.mkdir()
    blob.write_text("you may")
    (snapshot / "LICENSE").symlink_to(blob)
    other = snapshot.parent.parent / "token"  # beside the blobs, and no file of the model
    other.write_text("secret")
    (snapshot / "NOTICE").symlink_to(other)
    assert [path.name for path in papers(snapshot)] == ["LICENSE"]
    carry(snapshot, out)
    assert (out / "LICENSE").read_text() == "you may"
    assert not (out / "LICENSE").is_symlink()


def test_a_source_that_is_no_folder_has_no_files_at_hand(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr("planner.targets.hf.belongings.snapshot_download", offline)
    assert files_of("org/name") is None
    assert files_of(str(source)) == source
