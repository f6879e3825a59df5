"""Trainings end at their limits, keep what was best, and go on after a kill as if none was."""

import os
import resource
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from planner.recovery.healing.healing_checkpoint import CheckpointFile, TrainingState
from search_spaces.errors import OutputError
from tests.models.tiny import llama
from tests.planner.recovery.healing.students import Pupil, training, worse


def _pupil() -> Pupil:
    student = worse(llama().backbone)
    parameters = {name: p for name, p in student.model.named_parameters() if ".layers." in name}
    for parameter in parameters.values():
        parameter.requires_grad_()
    return Pupil(student, parameters)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _values(pupil: Pupil) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in pupil.parameters.items()}


def test_training_helps_and_the_curve_says_by_how_much(tmp_path: Path) -> None:
    pupil = _pupil()
    before = pupil.look()
    curve = training(tmp_path).run(pupil)
    assert curve.helped
    assert curve.stopped == "tokens"
    # measured again, by the weights that were kept
    assert pupil.look().mean() == pytest.approx(curve.looks[curve.best].fresh_kl, rel=1e-6)
    assert curve.gain.value == pytest.approx(before.mean() - pupil.look().mean(), rel=1e-6)
    assert curve.looks[-1].tokens == 1200


@pytest.mark.parametrize("killed_at", [0, 1, 7, 30])
def test_a_killed_training_goes_on_as_if_it_was_never_killed(
    tmp_path: Path, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _pupil()
    expected = training(_made(tmp_path / "whole")).run(whole)
    monkeypatch.setattr(CheckpointFile, "is_due", property(lambda _: True))
    _made(tmp_path / "killed")

    killed = _pupil()

    def die(step: int) -> None:
        if step == killed_at:
            raise KeyboardInterrupt

    killed.on_step = die
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "killed").run(killed)

    resumed = _pupil()
    steps: list[int] = []
    resumed.on_step = steps.append
    curve = training(tmp_path / "killed").run(resumed)
    assert steps[0] == killed_at
    for name, value in _values(whole).items():
        torch.testing.assert_close(_values(resumed)[name], value, rtol=0, atol=0)
    assert [p.fresh_kl for p in curve.looks] == [p.fresh_kl for p in expected.looks]


def test_a_training_that_is_over_is_not_begun_again(tmp_path: Path) -> None:
    """What follows it, such as scoring, may be killed too."""
    first = _pupil()
    curve = training(tmp_path).run(first)
    again = _pupil()
    again.on_step = lambda _: pytest.fail("it was trained again")
    assert training(tmp_path).run(again) == curve
    for name, value in _values(first).items():
        torch.testing.assert_close(_values(again)[name], value, rtol=0, atol=0)


def test_a_state_that_is_half_written_is_never_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(tmp_path)
    monkeypatch.setattr(CheckpointFile, "is_due", property(lambda _: True))
    pupil = _pupil()

    def die(step: int) -> None:
        if step == 5:
            monkeypatch.setattr(
                "planner.recovery.healing.healing_checkpoint.save_file", _half_written
            )

    pupil.on_step = die
    with pytest.raises(KeyboardInterrupt):
        run.run(pupil)
    state = CheckpointFile(tmp_path / "healing.safetensors", {"seed": 0}).load()
    assert state is not None
    assert state.facts.step == 5
    assert [path.name for path in tmp_path.iterdir()] == ["healing.safetensors"]


def test_a_disk_that_is_full_is_told_and_the_last_state_stays(tmp_path: Path) -> None:
    run = training(tmp_path)
    run.run(_pupil())
    file = CheckpointFile(tmp_path / "healing.safetensors", {"seed": 0})
    state = file.load()
    assert state is not None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OutputError, match="refuses its content; free some space"):
            file.save(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.load() is not None
    assert [path.name for path in tmp_path.iterdir()] == ["healing.safetensors"]


def _half_written(_tensors: object, path: Path, _metadata: object) -> None:
    path.write_bytes(b"half")
    raise KeyboardInterrupt


def test_a_state_of_other_settings_is_given_up(tmp_path: Path, notices: list[str]) -> None:
    run = training(tmp_path)
    run.checkpoint.save(_state())
    assert CheckpointFile(tmp_path / "healing.safetensors", {"seed": 1}).load() is None
    assert "other settings" in notices[-1]


def test_a_damaged_state_is_given_up(tmp_path: Path, notices: list[str]) -> None:
    run = training(tmp_path)
    run.checkpoint.save(_state())
    content = run.checkpoint.path.read_bytes()
    run.checkpoint.path.write_bytes(content[: len(content) // 2])
    assert run.checkpoint.load() is None
    assert "damaged" in notices[-1]


def _state() -> TrainingState:
    return TrainingState(parameters={"a": torch.ones(2)}, best={"a": torch.zeros(2)}, adam={})


class _Ruined:
    """A trainee that gets worse with each look, or whose loss is no number."""

    passes = 1

    def __init__(self, looks: list[float], loss: float = 1.0) -> None:
        self.parameters = {"weight": nn.Parameter(torch.zeros(3))}
        self._looks, self._loss = iter(looks), loss

    def backward(self, step: int, tokens: Tensor) -> float:
        self.parameters["weight"].grad = torch.ones(3)
        return self._loss

    def look(self) -> NDArray[np.float64]:
        return np.full(2, next(self._looks))


@pytest.mark.parametrize(
    ("trainee", "reason", "steps"),
    [
        (_Ruined([1.0, 5.0]), "diverged", 5),
        (_Ruined([1.0, float("nan")]), "diverged", 5),
        (_Ruined([1.0], loss=float("inf")), "diverged", 0),
        (_Ruined([1.0, 1.1, 1.2, 1.1, 1.1]), "no longer better", 17),
    ],
)
def test_what_does_not_help_is_kept_back(
    tmp_path: Path, trainee: _Ruined, reason: str, steps: int
) -> None:
    curve = training(tmp_path).run(trainee)
    assert curve.stopped == reason
    assert not curve.helped
    assert "did not help" in str(curve)
    assert trainee.parameters["weight"].tolist() == [0.0, 0.0, 0.0]
    assert curve.looks[-1].step <= steps


def test_a_process_that_is_killed_leaves_a_state_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a signal that nothing can catch, at whatever it is doing then."""
    whole = _pupil()
    training(tmp_path).run(whole)
    monkeypatch.setattr(CheckpointFile, "is_due", property(lambda _: True))
    folder = tmp_path / "killed"
    folder.mkdir()
    killed = _pupil()
    killed.on_step = lambda _: time.sleep(0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # no thread of ours matters to it
        child = os.fork()
    if child == 0:
        try:
            training(folder).run(killed)
        finally:
            os._exit(1)
    state = folder / "healing.safetensors"
    deadline = time.monotonic() + 60
    while not state.is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL

    resumed = _pupil()
    steps: list[int] = []
    resumed.on_step = steps.append
    training(folder).run(resumed)
    assert 0 < steps[0] < 50
    for name, value in _values(whole).items():
        torch.testing.assert_close(_values(resumed)[name], value, rtol=0, atol=0)
