from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.settings.search import SearchSettings
from search_spaces.errors import SettingsError


def test_settings_come_back_from_disk(tmp_path: Path) -> None:
    settings = SearchSettings(model="some/model", budget="params<=0.7x", minutes=2.5, seed=7)
    settings.save(tmp_path)
    assert SearchSettings.load(tmp_path) == settings
    assert yaml.safe_load((tmp_path / "settings.yaml").read_text())["version"] == 2


def test_every_field_says_what_it_does() -> None:
    fields = SearchSettings.model_fields
    assert all(field.description for field in fields.values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"population": 1}, "`population` must be at least 2, got 1; raise `population`"),
        ({"minutes": 0}, "`minutes` must be above 0"),
        (
            {"searcher": "nsga3"},
            "'random' or 'uniform', got 'nsga3'; choose one of these for `searcher`",
        ),
        ({"seed": "one"}, "`seed` must be a whole number, got 'one'"),
        ({"trust_remote_code": "perhaps"}, "`trust_remote_code` must be true or false"),
        ({"populatoin": 8}, "got `populatoin`; did you mean `population`?"),
        ({"zzz": 8}, "choose from model, data"),
        (
            {"space": "head"},
            "`space` must name what may be cut, got `head`; did you mean `heads`?",
        ),
        ({"model": None}, "`model` must be text, got None"),
    ],
)
def test_a_mistake_is_one_clear_sentence(values: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SearchSettings.checked(**{"model": "m"} | values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_is_held_out_from_other_text_only() -> None:
    assert SearchSettings.checked(model="m", data="a", holdout="b").holdout == "b"
    said = r"`holdout` must come with `data`, .* got 'b'; set `--data` too"
    with pytest.raises(SettingsError, match=said):
        SearchSettings.checked(model="m", holdout="b")


def test_a_space_is_written_in_one_way() -> None:
    settings = SearchSettings.checked(model="m", space=" channels,4:8, heads ,2:4")
    assert settings.space == "heads,channels,2:4,4:8"
    assert SearchSettings.checked(model="m") == SearchSettings(model="m")


def test_a_model_must_be_given() -> None:
    with pytest.raises(SettingsError, match="`model` must be given"):
        SearchSettings.checked()


@pytest.mark.parametrize("text", ["a: [", "just words", "version: 1\nmodel: m", "model: m", ""])
def test_a_file_that_is_not_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.yaml"):
        SearchSettings.load(tmp_path)


def test_differences_name_what_asks_for_another_search() -> None:
    before = SearchSettings(model="m")
    further = SearchSettings(model="m", evaluations=999, tokens=5, minutes=1.0)
    other = SearchSettings(model="m", seed=1, search_windows=8, evaluations=999)
    assert before.differences(further) == {}
    assert before.differences(other) == {"seed": (0, 1), "search_windows": (16, 8)}
