"""How much text each draw has, and what bounds the text that fits are made on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.data.windows import DRAWS, Calibration
from planner.preparation.calibration import calibrate, windows_of
from planner.preparation.dense_model import open_model
from planner.settings.search import SearchSettings
from search_spaces.errors import DataError
from search_spaces.progress import NoProgress

FEW: dict[str, Any] = {
    "search_windows": 4,
    "fresh_windows": 3,
    "holdout_windows": 2,
    "window_tokens": 32,
    "dtype": "float32",
}


def settings(**options: Any) -> SearchSettings:
    return SearchSettings.checked(**{"model": "m", **FEW, **options})


def drawn(folder: Path, **options: Any) -> Calibration:
    asked = settings(**options)
    return calibrate(open_model(asked, NoProgress()), asked, folder, NoProgress())


def counts(found: Calibration) -> list[int]:
    return [len(getattr(found, name)) for name in DRAWS]


def write_words(path: Path, count: int) -> str:
    words = np.random.default_rng(0).integers(3, 96, size=count)
    path.write_text(" ".join(f"w{word}" for word in words))
    return str(path)


@pytest.mark.parametrize(
    ("options", "most", "fewest"),
    [
        ({}, 1024, 4),  # of 32 tokens
        ({"window_tokens": 127}, 259, 4),  # rounded up: 258.01
        ({"search_windows": 2000}, 2000, 2000),
        ({"calibration_windows": 3}, 3, 3),
        ({"calibration_windows": 5000}, 5000, 5000),
    ],
)
def test_fits_are_made_on_so_many_windows(options: dict[str, int], most: int, fewest: int) -> None:
    windows = windows_of(settings(**options))
    assert (windows.statistics, windows.needed_statistics) == (most, fewest)


def test_by_default_fits_are_made_on_32768_tokens() -> None:
    windows = windows_of(SearchSettings(model="m"))
    assert windows.statistics * windows.tokens == 32_768


def test_calibration_takes_what_the_text_has_left_and_says_so(
    saved_llama: Path, tmp_path: Path, notices: list[str]
) -> None:
    # a half of 640 words holds 20 windows
    data = write_words(tmp_path / "text.txt", 1280)
    found = drawn(tmp_path, model=str(saved_llama), data=data)
    assert counts(found) == [13, 4, 3, 2]
    assert notices[-1] == (
        "calibration has 13 windows of 32 tokens, and not 1024, as text or time allow no more; "
        "`--calibration_windows` sets a number"
    )


def test_calibration_takes_no_longer_than_its_share_of_the_minutes(
    saved_llama: Path, tmp_path: Path
) -> None:
    data = write_words(tmp_path / "text.txt", 1280)
    short = drawn(tmp_path, model=str(saved_llama), data=data, minutes=1e-9)
    assert counts(short) == [4, 4, 3, 2]
    (tmp_path / "own").mkdir()
    own = drawn(tmp_path / "own", model=str(saved_llama), minutes=1e-9)
    assert counts(own) == [4, 4, 3, 2]


def test_a_number_that_was_set_is_drawn_whatever_time_it_takes(
    saved_llama: Path, tmp_path: Path
) -> None:
    data = write_words(tmp_path / "text.txt", 1280)
    asked = {"model": str(saved_llama), "minutes": 1e-9, "calibration_windows": 11}
    assert counts(drawn(tmp_path, data=data, **asked)) == [11, 4, 3, 2]
    (tmp_path / "own").mkdir()
    assert counts(drawn(tmp_path / "own", **asked)) == [11, 4, 3, 2]


def test_too_little_text_for_the_draws_is_refused_with_what_is_needed(
    saved_llama: Path, tmp_path: Path
) -> None:
    data = write_words(tmp_path / "text.txt", 640)
    with pytest.raises(DataError) as caught:
        drawn(tmp_path, model=str(saved_llama), data=data)
    assert str(caught.value) == (
        "4 calibration + 4 search + 3 fresh windows of 32 tokens share no text and need 352 "
        "tokens of one half of the text, which holds 321; give more text, or lower "
        "`--calibration_windows`, `--search_windows`, `--fresh_windows` or `--window_tokens`"
    )
    assert not (tmp_path / "calibration.npz").exists()


def test_a_folder_that_holds_the_held_out_file_is_refused(
    saved_llama: Path, tmp_path: Path
) -> None:
    (tmp_path / "texts").mkdir()
    data = write_words(tmp_path / "texts" / "a.txt", 1280)
    with pytest.raises(DataError, match="`--holdout` must be other text than `--data`"):
        drawn(tmp_path, model=str(saved_llama), data=str(tmp_path / "texts"), holdout=data)
