"""Which text of a user is that which a run was searched on."""

from pathlib import Path

import pytest

from evaluators.data.text_identity import digest_of_text
from planner.recovery.healing.run_text import is_searched_text
from planner.settings.heal import HealSettings
from planner.settings.search import SearchSettings


@pytest.mark.parametrize(
    ("data", "split", "is_searched"),
    [
        (None, "test", True),
        ("owner/name", "train", True),
        ("owner/name", "validation", False),
        ("owner/other", "train", False),
    ],
)
def test_another_split_is_other_text(data: str | None, split: str, *, is_searched: bool) -> None:
    searched = SearchSettings.checked(model="model", data="owner/name", split="train")
    settings = HealSettings.checked(model="run", data=data, split=split)
    assert is_searched_text(searched, ("",), settings) == is_searched


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("w1 w2 w3")
    searched = SearchSettings.checked(model="model", data=str(text), split="validation")
    settings = HealSettings.checked(model="run", data=str(text))
    assert is_searched_text(searched, (digest_of_text(str(text)),), settings)
