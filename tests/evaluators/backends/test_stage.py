"""Stages by hand: what passes through them is what one process makes of it, bit for bit."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from evaluators.backends.stage import Stage
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.score import Score
from search_spaces.errors import SettingsError
from search_spaces.models.streaming import LayerStream
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sorted_as_is
from tests.models import tiny
from tests.models.factory import LAYERS
from tests.models.streamed import STREAMED_FAMILIES, opened, save_sharded

pytestmark = pytest.mark.arithmetic
CUT = (range(2), range(2, 3), range(3, LAYERS))
FIDELITY = Fidelity(batch_tokens=36, metrics=("kl", "nll", "agreement"))
BATCHES: tuple[tuple[int, ...], ...] = ((0, 1, 2), (3,))


class Stages:
    """A pipeline in one process, each stage with a model of its own."""

    def __init__(self, folder: Path, scratch: Path, residents: ExitStack) -> None:
        self._scratch = scratch
        self._stages = []
        for layers in CUT:
            structure = opened(folder, "always").structure
            for index in layers:
                residents.enter_context(structure.backbone.resident(index))
            self._stages.append(
                Stage(
                    sorted_as_is(structure),
                    tiny.windows(),
                    FIDELITY,
                    layer_builder=LayerBuilder(sorted_as_is(structure)),
                    layers=layers,
                )
            )
        self.structure = structure
        self.ends = [structure.spans[layers[-1]].stop for layers in CUT]
        self.crossed = [0, 0]
        """Hidden states at each border."""

    def teach(self, windows: tuple[int, ...]) -> Path:
        entering = None
        for number, stage in enumerate(self._stages[:-1]):
            leaving = self._scratch / f"dense-{number}-{windows}"
            nothing = np.zeros((1, 0), dtype=np.int_)
            list(stage.dense(nothing, windows=windows, entering=entering, leaving=[leaving]))
            entering = leaving
        assert entering is not None
        return entering

    def score(
        self,
        counts: NDArray[np.int_],
        windows: tuple[int, ...],
        teachers: dict[tuple[int, ...], Path],
    ) -> dict[int, Score]:
        return dict(self._from(0, counts, np.arange(len(counts)), windows, None, teachers))

    def _from(
        self,
        number: int,
        counts: NDArray[np.int_],
        members: NDArray[np.int_],
        windows: tuple[int, ...],
        entering: Path | None,
        teachers: dict[tuple[int, ...], Path],
    ) -> Iterator[tuple[int, Score]]:
        _, place, group = np.unique(
            counts[members, : self.ends[number]], axis=0, return_index=True, return_inverse=True
        )
        rows = counts[members[place]]
        is_last = number + 1 == len(self._stages)
        leaving = [self._scratch / f"{number}-{members[each]}" for each in place]
        passed = self._stages[number].advance(
            rows,
            windows=windows,
            entering=entering,
            leaving=() if is_last else leaving,
            teachers=teachers if is_last else {},
        )
        for row, result in passed:
            below = members[group.ravel() == row]
            if isinstance(result, Score):
                yield from ((int(member), result) for member in below)
            else:
                self.crossed[number] += 1
                yield from self._from(number + 1, counts, below, windows, leaving[row], teachers)


@pytest.fixture(params=STREAMED_FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_sharded(request.param, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Layers that were read from disk, in order."""
    found: list[int] = []
    read = LayerStream._read

    def counted(stream: LayerStream, index: int) -> None:
        found.append(index)
        read(stream, index)

    monkeypatch.setattr(LayerStream, "_read", counted)
    return found


def candidates(stages: Stages) -> NDArray[np.int_]:
    """Twelve that share prefixes of all lengths, the dense model among them."""
    rng = np.random.default_rng(0)
    counts = tiny.random_counts(stages.structure, 12, rng)
    counts[0] = tiny.dense_counts(stages.structure)
    for member in range(2, 12):
        shared = rng.integers(counts.shape[1] + 1)
        counts[member, :shared] = counts[rng.integers(member), :shared]
    return counts


def test_scores_are_those_of_one_process_and_no_layer_is_read_again(
    folder: Path, tmp_path: Path, reads: list[int]
) -> None:
    with ExitStack() as residents:
        stages = Stages(folder, tmp_path, residents)
        counts = candidates(stages)
        reads.clear()
        teachers = {windows: stages.teach(windows) for windows in BATCHES}
        found = [
            stages.score(counts, windows, {windows: teachers[windows]}) for windows in BATCHES
        ]
        assert reads == []
        expected_crossings = [len(np.unique(counts[:, :end], axis=0)) for end in stages.ends[:-1]]
        assert stages.crossed == [len(BATCHES) * each for each in expected_crossings]
        assert max(expected_crossings) < len(counts)  # some prefix is shared
    structure = opened(folder, "always").structure
    expected = dict(Evaluator(sorted_as_is(structure), tiny.windows(), FIDELITY).score(counts))
    for member, score in expected.items():
        whole = found[0][member].then(found[1][member])
        assert whole.tokens == score.tokens
        for name, values in score.by_window.items():
            assert whole.by_window[name].tobytes() == values.tobytes(), name
    assert len({score.mean("kl") for score in expected.values()}) > 6


def test_windows_that_are_picked_have_the_teacher_of_all(tmp_path: Path) -> None:
    save_sharded("llama", tmp_path / "model")
    picked = (3, 0)
    with ExitStack() as residents:
        stages = Stages(tmp_path / "model", tmp_path, residents)
        counts = candidates(stages)
        teachers = {windows: stages.teach(windows) for windows in BATCHES}
        for _ in range(2):
            found = stages.score(counts, picked, teachers)
        other = stages.score(counts, (1, 2), teachers)
    structure = opened(tmp_path / "model", "always").structure
    evaluator = Evaluator(sorted_as_is(structure), tiny.windows(), FIDELITY)
    for scores, windows in ((found, picked), (other, (1, 2))):
        for member, score in evaluator.sample(counts, windows):
            assert scores[member].by_window["kl"].tobytes() == score.by_window["kl"].tobytes()


def test_too_little_memory_is_told_with_the_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_sharded("llama", tmp_path / "model")
    with ExitStack() as residents:
        stages = Stages(tmp_path / "model", tmp_path, residents)

        def exhausted(*_: object, **__: object) -> None:
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(type(stages.structure.backbone), "run_layer", exhausted)
        rule = r"suffice for 3 windows at once .* not for layers 0 to 1; set more `--workers`"
        with pytest.raises(SettingsError, match=rule):
            stages.score(candidates(stages), BATCHES[0], {})
