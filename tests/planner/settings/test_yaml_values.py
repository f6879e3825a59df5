"""YAML of users and runs: text stays text, and what is out of place is refused at once."""

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.settings.yaml_values import MOST_BYTES, parse_yaml, read_yaml
from search_spaces.errors import SettingsError

BOMB = "a: &a [l,l,l,l,l,l,l,l,l]\n" + "".join(
    f"{own}: &{own} [{','.join([f'*{last}'] * 9)}]\n"
    for last, own in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_values_stay_the_text_that_was_written() -> None:
    text = "a: off\nb: 1e5\nc: 2024-01-01\nd: 0x10\ne: '~'\nf: [2:4, yes]\ng: {h: .inf}\ni: 1_0"
    assert parse_yaml(text, "it") == {
        "a": "off",
        "b": "1e5",
        "c": "2024-01-01",
        "d": "0x10",
        "e": "~",
        "f": ["2:4", "yes"],
        "g": {"h": ".inf"},
        "i": "1_0",
    }


@pytest.mark.parametrize("text", ["a:", "a: ~", "a: null", "a: NULL"])
def test_nothing_is_no_value(text: str) -> None:
    assert parse_yaml(text, "it") == {"a": None}
    assert parse_yaml('a: "null"\nb: "~"', "it") == {"a": "null", "b": "~"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must hold `name: value` in each line, got no key"),
        ("words", "got no key"),
        ("- a", "got a list"),
        ("a: [b", "must be YAML, got none in line 1"),
        ("a: 1\nb: c: d", "got none in line 2"),
        ("a: \x07", "for a sign that it forbids"),
        ('a: "\\U00110000"', "for a sign that it forbids"),
        ("a: 1\n---\nb: 2", "must be one document, got a second one"),
        ("a: 1\na: 2", "must have each key once, got 'a' twice in line 2"),
        ("? [a]\n: 1", "must have text for keys"),
        ("a: !!python/object/apply:os.system [x]", "must be YAML without tags"),
        ("a: !x y", "must be YAML without tags"),
        ("a: &b 1", "an alias or anchor in line 1"),
        ("a: *b", "an alias or anchor in line 1"),
        (BOMB, "an alias or anchor in line 1"),
        ("a: " + "[" * 3000 + "]" * 3000, "must be at most 8 lists deep"),
        ("a: " + "{b: " * 3000, "must be at most 8 lists deep"),
        ("- " * 3000, "must be at most 8 lists deep"),
    ],
)
def test_what_is_out_of_place_is_refused_in_a_sentence(text: str, said: str) -> None:
    before = time.process_time()
    with pytest.raises(SettingsError) as caught:
        parse_yaml(text, "`it`")
    assert time.process_time() - before < 1
    message = str(caught.value)
    assert said in message
    assert message.startswith("`it` must ")
    assert "\n" not in message
    assert len(message) <= 300


@given(st.text(alphabet="ab1:-[]{}\"'\n #&*!|>%@`?,\\~\t", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(SettingsError):
        assert all(isinstance(key, str) for key in parse_yaml(text, "it"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    written = {
        "latin.yaml": ("a: b\nc: Ä".encode("latin-1"), "UTF-8, got other bytes in line 2"),
        "long.yaml": (b"a: b\n" * MOST_BYTES, "at most 100 kB, got a longer file"),
    }
    for name, (content, said) in written.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SettingsError, match=said):
            read_yaml(tmp_path / name)
    (tmp_path / "signed.yaml").write_bytes("\ufeffa: Ä".encode())
    assert read_yaml(tmp_path / "signed.yaml") == {"a": "Ä"}
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "absent", "", "x" * 300):
        with pytest.raises(SettingsError, match="must be a file of YAML"):
            read_yaml(tmp_path / name)
