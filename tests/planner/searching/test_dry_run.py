"""A dry run says what a search would do, and does not."""

import re
from pathlib import Path

import numpy as np
import pytest

from evaluators.backends.population_cut import PopulationCut
from evaluators.backends.work import Work
from planner.cli.main import main
from planner.searching.dry_run import dry_run, sharing
from planner.settings.search import SearchSettings
from search_spaces.errors import DataError
from search_spaces.progress import NO_PROGRESS
from tests.settings import SHORT_TEXT

OPTIONS = [f"--{name}={value}" for name, value in SHORT_TEXT.items()]


def test_it_says_how_a_generation_would_be_cut_and_leaves_nothing(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For workers of which this machine would refuse as many."""
    out = tmp_path / "run"
    command = ["search", str(saved_llama), *OPTIONS, f"--out={out}", "--workers=1000"]
    assert main([*command, "--population=24", "--dry_run"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"one plan takes [\d.]+ s on all 64 tokens: at most about", printed)
    found = re.search(
        r"a generation of 24 plans would be cut into (\d+) parts of 1 to (\d+) plans for 1000 "
        r"workers, .*: scored ([\d.]+) times as fast as by one",
        printed,
    )
    assert found is not None
    parts, largest, speed_up = int(found[1]), int(found[2]), float(found[3])
    assert parts * largest >= 24
    assert 1.0 < speed_up <= parts
    assert not out.exists()


@pytest.mark.parametrize("error", [DataError("text must be there, got none"), KeyboardInterrupt()])
def test_one_that_ends_early_says_why_and_leaves_nothing(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("planner.searching.dry_run.open_prepared", ends)
    settings, out = SearchSettings.checked(model="m"), tmp_path / "run"
    with pytest.raises(type(error)) as caught:
        list(dry_run(settings, out, progress=NO_PROGRESS))
    assert caught.value is error
    assert not out.exists()


def test_a_run_is_not_resumed_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["search", "m", "--out", str(tmp_path / "run"), "--resume", "--dry_run"]
    assert main(command) == 2
    assert "`--dry_run` must be given for a new run, got `--resume`" in capsys.readouterr().err


def test_the_figures_are_those_of_the_cut() -> None:
    def work(*beyond: float) -> Work:
        return Work(alone=np.full(len(beyond), 10.0), beyond=np.array(beyond))

    cut = PopulationCut(
        parts=(np.arange(3), np.arange(3, 5)),
        works=(work(10.0, 2.0, 4.0), work(10.0, 2.0)),
        amounts=(),
        whole_work=20.0,
    )
    assert sharing(cut, 2) == (
        "a generation of 5 plans would be cut into 2 parts of 2 to 3 plans for 2 workers, the "
        "dearest with 80% of the products: scored 1.2 times as fast as by one of them, if each "
        "has cores of its own, with 40% more products for prefixes that are run anew; "
        "the minutes above are those of one process"
    )
