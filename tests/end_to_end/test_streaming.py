"""A search of a streamed model from start to end; a large one under a hard limit of memory."""

import os
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from planner import Run, search
from planner.cli.main import main
from search_spaces.errors import ModelError, RunError, SettingsError
from search_spaces.models import memory
from tests import ROOT
from tests.models.factory import VOCABULARY
from tests.models.streamed import write_large, write_large_mixture
from tests.planner.workers.disturbed_search import scores
from tests.planner.workers.pipeline.counted_process import LOG, layers_read
from tests.planner.workers.pipeline.counted_process import __name__ as counted_process

pytestmark = pytest.mark.arithmetic
SMALL: dict[str, Any] = {
    "budget": "params<=0.8x",
    "evaluations": 12,
    "population": 4,
    "search_windows": 3,
    "window_tokens": 16,
    "holdout_windows": 2,
}
RESIDENT_LIMIT = 2_500_000_000
STAGE_LIMIT = 5 * 2**29
"""2.5 GiB: half of the weights, what a process takes without any, and a layer while it is read."""
LARGE_LAYERS = 32
MIXTURE_LAYERS = 23


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Words that the tiny tokenizer knows."""
    words = np.random.default_rng(0).integers(3, VOCABULARY, size=2000)
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(f"w{word}" for word in words), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def streamed_run(saved_llama: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "streamed"
    return search(str(saved_llama), out=out, data=str(text), offload="always", **SMALL)


def test_the_front_is_that_of_the_model_loaded_whole(
    streamed_run: Run, saved_llama: Path, text: Path, tmp_path: Path
) -> None:
    whole = search(
        str(saved_llama), out=tmp_path / "whole", data=str(text), offload="never", **SMALL
    )
    pd.testing.assert_frame_equal(streamed_run.front(), whole.front())


def test_a_run_may_go_on_with_the_model_whole(
    streamed_run: Run, saved_llama: Path, text: Path
) -> None:
    before = len(streamed_run.landed())
    options: dict[str, Any] = {**SMALL, "evaluations": 16, "data": str(text)}
    on = search(str(saved_llama), out=streamed_run.folder, resume=True, offload="never", **options)
    assert len(on.landed()) > before
    with pytest.raises(RunError, match="`seed` was 0, now 1"):
        search(str(saved_llama), out=streamed_run.folder, resume=True, seed=1, **options)


def test_a_streamed_model_does_not_write_its_own_text(saved_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"`data` must be given for a model that is streamed"):
        search(str(saved_llama), out=tmp_path / "run", offload="always", **SMALL)


def test_inspecting_says_that_layers_stay_on_disk(
    saved_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for offload in ("never", "always"):
        assert main(["inspect", str(saved_llama), "--offload", offload]) == 0
        texts.append(capsys.readouterr())
    whole, streamed = texts
    assert streamed.out == whole.out
    said = "its layers stay on disk, and each is read when it is used"
    assert said in streamed.err
    assert said not in whole.err


def test_an_export_loads_the_model_whole_or_is_refused(
    streamed_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = streamed_run.best("params<=0.8x").plan_id
    assert (streamed_run.export(plan, tmp_path / "model") / "model.safetensors").is_file()
    monkeypatch.setattr(memory, "available_bytes", lambda _: 0)
    with pytest.raises(ModelError, match="must fit into memory whole, in float32"):
        streamed_run.export(plan, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not psutil.LINUX, reason="reads the kernel's own account of memory")
def test_a_model_larger_than_memory_is_searched(text: Path, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    write_large(model, layers=LARGE_LAYERS)
    weight_bytes = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    assert weight_bytes > 4_000_000_000 > RESIDENT_LIMIT
    command = ["search", str(model), "--data", str(text), "--dtype", "float32"]
    sizes = {"search_windows": 2, "holdout_windows": 2, "window_tokens": 16}
    command += [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    command += ["--evaluations", "4", "--population", "4", "--budget", "params<=0.8x"]
    log = tmp_path / "log.txt"
    # loaded whole, it breaks the same limit
    status, peak = run_limited(
        [*command, "--offload", "never", "--out", str(tmp_path / "whole")], log
    )
    assert status != 0
    assert peak > RESIDENT_LIMIT
    status, peak = run_limited([*command, "--offload", "always", "--out", str(out)], log)
    assert status == 0, log.read_text(encoding="utf-8")
    assert peak <= RESIDENT_LIMIT
    print(f"peak {peak / 1e9:.2f} GB of {weight_bytes / 1e9:.2f} GB of weights")  # noqa: T201
    front = Run.open(out).front()
    assert len(front) > 1
    assert np.isfinite(front[["kl", "nll", "holdout_kl"]].to_numpy(float)).all()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not psutil.LINUX, reason="reads the kernel's own account of memory")
def test_two_workers_hold_a_model_that_neither_could(text: Path, tmp_path: Path) -> None:
    model, log, reads = tmp_path / "model", tmp_path / "log.txt", tmp_path / "reads"
    write_large(model, layers=LARGE_LAYERS)
    weight_bytes = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    assert weight_bytes > 4_000_000_000
    command = ["search", str(model), "--data", str(text), "--dtype", "bfloat16"]
    sizes = {"search_windows": 4, "holdout_windows": 2, "fresh_windows": 2, "window_tokens": 16}
    command += [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    command += ["--evaluations", "8", "--population", "4", "--budget", "params<=0.8x"]
    command += ["--compensate", "none", "--calibration_windows", "4"]
    out, other = tmp_path / "stages", tmp_path / "one"
    status, peaks = run_watched(
        [*command, "--workers", "2", "--pipeline", "--out", str(out)], log, reads
    )
    assert status == 0, log.read_text(encoding="utf-8")
    told = " and ".join(f"{peak / 1e9:.2f}" for peak in peaks[1:])
    print(f"peaks {told} GB of {weight_bytes / 1e9:.2f} GB of weights")  # noqa: T201
    assert len(peaks) == 3
    assert max(peaks) <= STAGE_LIMIT < weight_bytes
    # each read a half of the layers last, and nothing more while plans were scored
    found, half = layers_read(reads).values(), LARGE_LAYERS // 2
    assert sorted(before[-half:] for before, _ in found) == [
        list(range(half)),
        list(range(half, LARGE_LAYERS)),
    ]
    assert [after for _, after in found] == [[], []]
    status, _ = run_limited([*command, "--offload", "always", "--out", str(other)], log)
    assert status == 0, log.read_text(encoding="utf-8")
    assert len(Run.open(out).landed()) >= 8
    assert scores(Run.open(out)) == scores(Run.open(other))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not psutil.LINUX, reason="reads the kernel's own account of memory")
def test_experts_larger_than_memory_are_ranked_and_searched(text: Path, tmp_path: Path) -> None:
    model, out, log = tmp_path / "model", tmp_path / "run", tmp_path / "log.txt"
    write_large_mixture(model, layers=MIXTURE_LAYERS)
    weight_bytes = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    assert weight_bytes > 8_000_000_000
    command = ["search", str(model), "--data", str(text), "--dtype", "bfloat16"]
    sizes = {"search_windows": 2, "holdout_windows": 2, "fresh_windows": 2, "window_tokens": 16}
    command += [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    command += ["--evaluations", "2", "--population", "2", "--budget", "params<=0.8x"]
    command += ["--space", "experts", "--compensate", "none", "--calibration_windows", "4"]
    status, peak = run_limited([*command, "--offload", "always", "--out", str(out)], log)
    assert status == 0, log.read_text(encoding="utf-8")
    assert peak <= RESIDENT_LIMIT
    print(f"peak {peak / 1e9:.2f} GB of {weight_bytes / 1e9:.2f} GB of weights")  # noqa: T201
    assert np.isfinite(Run.open(out).front()[["kl", "holdout_kl"]].to_numpy(float)).all()


def run_limited(arguments: list[str], log: Path) -> tuple[int, int]:
    """Run the planner in a process that is killed if it ever has more resident than the limit.

    Once the model is loaded the kernel refuses private memory beyond the limit, too; while it is
    loaded transformers maps all files at once, untouched, which the kernel would count as such.

    Returns:
        Exit status, and peak of resident memory in bytes as the kernel counts it, with what is
        mapped from files.
    """
    code = "import sys; from planner.cli.main import main; sys.exit(main())"
    root, limits = ROOT, (RESIDENT_LIMIT, RESIDENT_LIMIT)
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=root, stderr=errors)
    peak, loaded = 0, False
    while child.poll() is None:
        if not loaded and "reading its structure" in log.read_text(encoding="utf-8"):
            resource.prlimit(child.pid, resource.RLIMIT_DATA, limits)
            loaded = True
        peak = max(peak, _peak_resident_bytes(child.pid))
        if peak > RESIDENT_LIMIT:
            child.kill()
        time.sleep(0.05)
    return child.returncode, peak


def run_watched(arguments: list[str], log: Path, reads: Path) -> tuple[int, list[int]]:
    """Run the planner with workers that write down which layers they read.

    Returns:
        Exit status, and peaks of resident memory in bytes, of the search and of each worker.
    """
    program = ("-m", counted_process)
    code = f"""
import sys
from planner.workers import backends
backends.PROGRAM = {program!r}
from planner.cli.main import main
sys.exit(main())
"""
    environment = {**os.environ, LOG: str(reads)}
    with log.open("w", encoding="utf-8") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, stderr=errors, env=environment
        )
    peaks = {child.pid: 0}
    while child.poll() is None:
        with suppress(psutil.NoSuchProcess):
            for worker in psutil.Process(child.pid).children():
                if counted_process in worker.cmdline():
                    peaks.setdefault(worker.pid, 0)
        for process, peak in peaks.items():
            peaks[process] = max(peak, _peak_resident_bytes(process))
        time.sleep(0.05)
    return child.returncode, list(peaks.values())


def _peak_resident_bytes(process: int) -> int:
    """Read the kernel's own high-water mark; 0 once the process is over."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)
