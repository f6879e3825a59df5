"""A GGUF file tells its licence at its head, and one that is damaged tells nothing."""

import random
import struct
from pathlib import Path

import gguf
import pytest

from planner.export.cards.gguf_head import gguf_head
from planner.export.cards.origin import Origin


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.license", "apache-2.0")
    writer.add_array("general.languages", ["en", "no"])
    writer.add_array("general.tags", ["chat"])
    writer.add_uint32("llama.block_count", 6)
    writer.add_bool("general.flag", val=True)
    writer.add_array("general.sizes", [1, 2, 3])
    writer.add_string("general.base_model.0.repo_url", "https://huggingface.co/org/name")
    writer.add_array("tokenizer.ggml.tokens", [f"w{index}" for index in range(500)])
    writer.add_string("general.license.name", "after a long list")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_the_head_is_read(file: Path) -> None:
    assert gguf_head(file) == {
        "license": ["apache-2.0"],
        "language": ["en", "no"],
        "tags": ["chat"],
        "base_model": ["org/name"],
    }
    origin = Origin.of(str(file), file.parent)
    assert origin.licence == ("apache-2.0",)
    assert origin.base_model == ("org/name",)


def test_a_damaged_head_breaks_nothing(file: Path) -> None:
    sound = file.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        broken = bytearray(sound[: rng.randrange(len(sound))])
        for _ in range(min(len(broken), 3)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        file.write_bytes(broken)
        assert all(
            isinstance(value, str) for values in gguf_head(file).values() for value in values
        )


def test_what_is_no_gguf_file_says_nothing(tmp_path: Path) -> None:
    assert gguf_head(tmp_path / "nowhere.gguf") == {}
    (tmp_path / "text.gguf").write_text("license: mit")
    assert gguf_head(tmp_path / "text.gguf") == {}
    endless = struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**63) + struct.pack("<Q", 2**63)
    (tmp_path / "endless.gguf").write_bytes(endless)
    assert gguf_head(tmp_path / "endless.gguf") == {}
