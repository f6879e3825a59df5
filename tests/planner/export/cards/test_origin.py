"""What a model's card says is taken over as far as anyone can read it, and no path of ours is."""

import json
from pathlib import Path

import pytest

from planner.export.cards.origin import Origin

CARD = """\
---
license: other
license_name: llama3.2
license_link: LICENSE.txt
language:
- en
- no
tags: [chat, GGUF, "llama-3"]
base_model: meta-llama/Llama-3.2-1B
model-index:
- name: deep
  results: [{task: {type: text-generation}}]
---

# A model
"""


def origin_of(folder: Path, card: str = "", **config: object) -> Origin:
    (folder / "README.md").write_text(card, encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return Origin.of(str(folder), folder)


def test_a_card_is_read(tmp_path: Path) -> None:
    (tmp_path / "LICENSE.txt").write_text("you may")
    assert origin_of(tmp_path, CARD) == Origin(
        licence=("other",),
        licence_name="llama3.2",
        licence_link="LICENSE.txt",
        papers=("LICENSE.txt",),
        base_model=("meta-llama/Llama-3.2-1B",),
        languages=("en", "no"),
        tags=("chat", "llama-3"),
    )


@pytest.mark.parametrize(
    "head",
    [
        "",
        "license: [",
        "a: &a [x, x]\nlicense: *a",
        "license: !!python/object/apply:os.system [echo]",
        "- license",
        "license: {deep: {deeper: no}}",
        "license: ''",
        'license: "a\\nb: c"',
        "license: " + "x" * 300,
        "[" * 5000,
        "\x00license: mit",
    ],
)
def test_what_nobody_can_read_is_left_out(head: str, tmp_path: Path) -> None:
    assert origin_of(tmp_path, f"---\n{head}\n---\n").licence == ()


def test_a_card_without_head_or_end_says_nothing(tmp_path: Path) -> None:
    assert origin_of(tmp_path, "# license: mit").licence == ()
    assert origin_of(tmp_path, "---\nlicense: mit\n").licence == ()
    assert origin_of(tmp_path, "---\r\nlicense: mit\r\n---\r\n").licence == ("mit",)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("org/model", ("org/model",)),
        ("/home/someone/model", ()),
        ("./model", ()),
        ("../a/b", ()),
        ("org/model\n# heading", ()),
        ("C:\\models\\x", ()),
        ("", ()),
        (7, ()),
    ],
)
def test_the_base_is_a_name_of_the_hub(said: object, expected: object, tmp_path: Path) -> None:
    assert origin_of(tmp_path, _name_or_path=said).base_model == expected


def test_a_name_of_the_hub_is_its_own_base() -> None:
    assert Origin.of("org/model", None).base_model == ("org/model",)
    assert Origin.of("/nowhere/org/model", None).base_model == ()


def test_a_snapshot_in_the_hubs_cache_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--some-model" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert origin_of(folder, CARD).base_model == ("org/some-model",)


def test_a_folder_without_card_or_config_says_nothing(tmp_path: Path) -> None:
    assert Origin.of(str(tmp_path), tmp_path) == Origin()
