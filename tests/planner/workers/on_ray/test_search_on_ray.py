"""A search by workers on Ray is the search of one process, bit for bit, and of any other kind."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from planner import Run, search
from planner.workers.on_ray.ray_actor import ScoringActor
from tests import ROOT
from tests.planner.workers.disturbed_search import RACED, Disturbing, scores

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_here")]
ON_RAY: dict[str, Any] = {"workers": "ray", "worker_devices": "2xcpu"}
DRIVER = """
import json, os, signal, sys
import torch
from planner import search
from tests.planner.workers.disturbed_search import Disturbing
torch.set_num_threads(1)
settings = json.loads(sys.argv[1])
search(**settings, progress=Disturbing(14, lambda: os.kill(os.getpid(), signal.SIGKILL)))
"""
"""A search that is killed once it has come to some plans."""


def actors() -> list[psutil.Process]:
    """Processes of actors that score on this machine."""
    titled = f"ray::{ScoringActor.__name__}"
    return [each for each in psutil.process_iter() if _title(each).startswith(titled)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it is gone, or nobody's to look at
        return ""


def kill_actor() -> None:
    actors()[0].kill()


@pytest.fixture(scope="module")
def by_one(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(str(saved_llama), out=tmp_path_factory.mktemp("one") / "run", **RACED)


def test_processes_and_actors_give_the_same_front(
    by_one: Run, saved_llama: Path, tmp_path: Path
) -> None:
    by_two = search(str(saved_llama), out=tmp_path / "two", **RACED, workers=2)
    on_ray = search(str(saved_llama), out=tmp_path / "ray", **RACED, **ON_RAY)
    assert len(scores(by_one)) >= RACED["evaluations"]
    assert scores(by_one) == scores(by_two) == scores(on_ray)
    pd.testing.assert_frame_equal(by_one.front(), on_ray.front(), check_exact=True)
    assert sorted(p.name for p in on_ray.folder.iterdir()) == sorted(
        p.name for p in by_two.folder.iterdir()
    )


def test_an_actor_that_is_killed_changes_nothing(
    by_one: Run, saved_llama: Path, tmp_path: Path
) -> None:
    progress = Disturbing(14, kill_actor)
    on_ray = search(str(saved_llama), out=tmp_path / "run", **RACED, **ON_RAY, progress=progress)
    assert any("1 of 2 workers" in note for note in progress.notes)
    assert scores(on_ray) == scores(by_one)


def test_a_search_that_is_killed_goes_on_with_workers_of_another_kind(
    by_one: Run, saved_llama: Path, tmp_path: Path, ray_here: str
) -> None:
    """And its actors end with it."""
    out = tmp_path / "run"
    common = {"model": str(saved_llama), "out": str(out), **RACED}
    settings = json.dumps({**common, **ON_RAY, "ray": ray_here})
    words = [sys.executable, "-c", DRIVER, settings]
    killed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    deadline = time.monotonic() + 30
    while actors() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert actors() == []
    assert 0 < len(scores(Run.open(out))) < len(scores(by_one))
    settings = json.dumps({**common, "workers": 3, "resume": True})
    words = [sys.executable, "-c", DRIVER.replace("Disturbing(14", "Disturbing(20"), settings]
    killed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = search(**{**common, **ON_RAY, "resume": True})
    assert scores(finished) == scores(by_one)
