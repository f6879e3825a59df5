import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from planner.settings.automatic_workers import automatic_workers
from planner.settings.search import SearchSettings
from planner.settings.to_moe import ToMoeSettings
from planner.settings.validation import kind_of
from search_spaces.errors import BudgetError, SettingsError


def test_settings_come_back_from_disk(tmp_path: Path) -> None:
    settings = SearchSettings.checked(
        model="some/model", budget="params<=0.7x", compensate="merge,bias", minutes=2.5, seed=7
    )
    settings.save(tmp_path)
    assert SearchSettings.load(tmp_path) == settings
    stored = yaml.safe_load((tmp_path / "settings.yaml").read_text())
    assert stored["version"] == 3
    assert (stored["budget"], stored["compensate"]) == ("params<=0.7x", "bias,merge")
    assert stored["space"] == "heads,channels,drops,experts"


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
        lambda text: text.strip()
    )
    | st.sampled_from(
        ["null", "~", "off", "1e5", "#notes.txt", "a: b", "0x10", "- a", "2:4", "=x"]
    ),
    st.floats(min_value=1e-9, max_value=math.inf, exclude_min=True),
)
def test_any_text_and_number_come_back_as_they_were(data: str, gigabytes: float) -> None:
    settings = SearchSettings.checked(
        model="m", data=data, weight_cache_gigabytes=gigabytes, minutes=min(gigabytes, 1e6)
    )
    with TemporaryDirectory() as folder:
        settings.save(Path(folder))
        assert SearchSettings.load(Path(folder)) == settings
    assert settings.weight_cache_bytes is not None
    assert 0 <= settings.weight_cache_bytes <= 10**18


def test_text_is_read_by_the_type_of_its_field() -> None:
    settings = SearchSettings.checked(
        model="null", seed="7", minutes="1.5", trust_remote_code="yes", racing="off", data="1e5"
    )
    read = (settings.model, settings.seed, settings.minutes, settings.racing, settings.data)
    assert read == ("null", 7, 1.5, "off", "1e5")
    assert settings.trust_remote_code is True


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"seed": 2**32}, "`seed` must be at most 4,294,967,295, got 4294967296; lower"),
        ({"seed": 10**5000}, "got a longer number"),
        ({"seed": True}, "`seed` must be a whole number, got True"),
        ({"minutes": math.inf}, "`minutes` must be a finite number, got inf"),
        ({"minutes": 1e300}, "`minutes` must be at most 1,000,000, got 1e+300"),
        ({"weight_cache_gigabytes": math.nan}, "must be above 0, got nan"),
        ({"data": " "}, "`data` must not be empty, got ' '"),
        ({"data": "a\0b"}, "`data` must be text in UTF-8 without NUL"),
        ({"data": "a\udcff"}, "`data` must be text in UTF-8 without NUL"),
        (
            {"calibration_windows": 10**6},
            "must have at most 16,777,216 tokens, got 1000000 of 128",
        ),
        ({"x" * 999: 1}, "choose from model, data"),
    ],
)
def test_a_value_without_bounds_or_sense_is_refused_by_name(
    values: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        SearchSettings.checked(**{"model": "m"} | values)
    assert said in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_every_number_has_a_limit() -> None:
    for settings in (SearchSettings, ToMoeSettings):
        for name, field in settings.model_fields.items():
            if kind_of(field.annotation) in (int, float) and name != "weight_cache_gigabytes":
                limits = [getattr(part, "le", None) for part in field.metadata]
                assert any(limit is not None for limit in limits), name


def test_every_field_says_what_it_does() -> None:
    fields = SearchSettings.model_fields
    assert all(field.description for field in fields.values())


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"population": 1}, "`population` must be at least 2, got 1; raise `population`"),
        ({"minutes": 0}, "`minutes` must be above 0"),
        ({"workers": 0}, "`workers` must be at least 1, got 0; raise `workers`"),
        ({"workers": -2}, "`workers` must be at least 1, got -2; raise `workers`"),
        (
            {"workers": "rays"},
            "`workers` must be a whole number or 'auto' or 'ray', got 'rays'; fix `workers`",
        ),
        (
            {"workers": "ray"},
            "`workers` ray needs to know how many, and what each has, got none; set `--worker_dev",
        ),
        (
            {"ray": "head:6379"},
            "`ray` is of `workers` ray alone, got `workers` auto; set `--workers",
        ),
        ({"workers": 2, "worker_devices": "cuda"}, "`worker_devices` is of `workers` ray alone"),
        (
            {"workers": "ray", "worker_devices": "0xcuda"},
            "such as `8xcuda`, or `4xcpu:2` for two cores each, got '0xcuda'; write it so",
        ),
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
        (
            {"recover": "refit", "calibration_windows": 1},
            "`recover` needs two `calibration_windows` at least, one to compare on, got 1; ask",
        ),
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"budget": "params<=0.8x"}, {"budget": " PARAMS ≤ 0.80× "}),
        ({"budget": "size<=180MB,kl<=0.1"}, {"budget": "kl<=1e-1,size<=180000000"}),
        ({"space": "heads,2:4"}, {"space": "2:4, heads"}),
        ({"compensate": "obs,merge"}, {"compensate": " merge,obs"}),
    ],
)
def test_the_same_in_other_words_is_no_difference(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    settings = [SearchSettings.checked(model="m", **values) for values in (one, other)]
    assert settings[0].differences(settings[1]) == {}
    assert settings[0] == settings[1]


def test_a_difference_is_told_in_text() -> None:
    before = SearchSettings.checked(model="m", budget="params<=0.80x", compensate="none")
    now = SearchSettings.checked(model="m", budget="params<=0.9x,kl<=1")
    assert before.differences(now) == {
        "budget": ("params<=0.8x", "params<=0.9x,kl<=1"),
        "compensate": ("none", "obs"),
    }


@pytest.mark.parametrize(
    "values", [{"focus": "budget"}, {"searcher": "evopress"}, {"searcher": "multipruner"}]
)
@pytest.mark.parametrize("budget", [None, "kl<=0.1"])
def test_what_goes_to_one_limit_needs_one(values: dict[str, str], budget: str | None) -> None:
    said = f"needs a budget that limits a cost, got {budget or 'none'}"
    with pytest.raises(BudgetError, match=said):
        SearchSettings.checked(model="m", budget=budget, **values)
    limited = SearchSettings.checked(model="m", budget="kl<=0.1,size<=0.5x", **values)
    assert limited.budget is not None
    assert limited.budget.cost_names == ("size",)


def test_a_space_is_written_in_one_way() -> None:
    settings = SearchSettings.checked(model="m", space=" channels,4:8, heads ,2:4")
    assert str(settings.space) == "heads,channels,2:4,4:8"
    assert SearchSettings.checked(model="m") == SearchSettings(model="m")


def test_a_model_must_be_given() -> None:
    with pytest.raises(SettingsError, match="`model` must be given"):
        SearchSettings.checked()


@pytest.mark.parametrize(
    "text",
    ["a: [", "just words", "version: 1\nmodel: m", "model: m", "", "1: 2", "a: &a [x]\nb: *a"],
)
def test_a_file_that_is_not_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(SettingsError, match=r"settings\.yaml"):
        SearchSettings.load(tmp_path)


def test_differences_name_what_asks_for_another_search() -> None:
    before = SearchSettings(model="m")
    further = SearchSettings(model="m", evaluations=999, tokens=5, minutes=1.0)
    other = SearchSettings(model="m", seed=1, search_windows=8, evaluations=999)
    assert before.differences(further) == {}
    assert before.differences(other) == {"seed": (0, 1), "search_windows": (32, 8)}


@pytest.mark.parametrize("budget", [None, "params<=0.7x"])
def test_a_runtime_is_chosen_for_a_budget_that_is_measured_in_it(budget: str | None) -> None:
    with pytest.raises(
        SettingsError, match=r"`runtime` llama\.cpp needs a budget on what is measured in it, got"
    ):
        SearchSettings.checked(model="m", budget=budget, runtime="llama.cpp")
    for measured in ("latency<=0.7x", "throughput>=2x"):
        settings = SearchSettings.checked(model="m", budget=measured, runtime="llama.cpp")
        assert settings.runtime == "llama.cpp"
    assert SearchSettings.checked(model="m", budget=budget).runtime == "torch"


def test_workers_are_a_number_or_what_is_fastest(tmp_path: Path) -> None:
    settings = SearchSettings.checked(model="m")
    assert settings.workers == "auto"
    assert settings.worker_count == automatic_workers()
    for text, count in (("3", 3), ("auto", automatic_workers())):
        asked = SearchSettings.checked(model="m", workers=text)
        asked.save(tmp_path)
        assert SearchSettings.load(tmp_path) == asked
        assert asked.worker_count == count
