"""A scoring backend for a model of which each worker holds a part of the layers."""

from collections import deque
from collections.abc import Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np

from evaluators.backends.stage import Windows
from evaluators.scoring.batches import WindowBatches
from evaluators.scoring.by_gradient.output_fisher import Asked
from evaluators.scoring.by_gradient.slopes import Slopes
from evaluators.scoring.prefix_tree import Members, PrefixTree
from evaluators.scoring.score import Score
from planner.preparation.prepared_model import PreparedModel
from planner.workers.assignment import Lost
from planner.workers.messages import Task
from planner.workers.pipeline.stage_line import Passage, StageLine, TextBatch
from planner.workers.scored_run import ScoredText
from search_spaces.errors import ModelError, SettingsError
from search_spaces.space.configuration import Configurations, dense_configurations


class PipelineBackend:
    """Sends populations through stages, batch by batch, and puts together what comes out.

    At the end of each stage candidates that agree up to there are one hidden state, which the next
    stage takes up as soon as it is there.

    Args:
        line: The stages.
        prepared: The model that they hold together.
        text: What they score it on.
    """

    def __init__(self, line: StageLine, prepared: PreparedModel, text: ScoredText) -> None:
        structure, windows = prepared.dense.structure, getattr(prepared.calibration, text.split)
        tree = PrefixTree(prepared.sorted_model, prepared.layer_builder)
        within = [[s.stop for s in tree.running_steps if s.layer in ls] for ls in line.layers]
        self._route = Route(
            line=line,
            text=text,
            metrics=text.fidelity.metrics,
            running_order=tree.running_order,
            borders=(*map(max, within[:-1]), len(tree.running_order)),
            dense=dense_configurations(structure.components)[None],
            teachers={},
        )
        self._layer_builder = prepared.layer_builder
        self._sweep_bytes = text.fidelity.sweep_bytes
        self._batches = WindowBatches(structure.backbone, windows, text.fidelity)
        self.rungs = self._batches.rungs
        self._window_count, self._window_tokens = windows.shape
        config, dtype = structure.backbone.model.config, structure.backbone.model.dtype
        self._token_bytes = config.get_text_config().hidden_size * dtype.itemsize

    def score(
        self, configurations: Configurations, rung: int | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates; see `ScoringBackend`."""
        rungs = range(len(self.rungs)) if rung is None else [rung]
        parts = [part for number in rungs for part in self._batches.parts(number)]
        whole = [tuple(range(part.start, part.stop)) for part in parts]
        return self._scores(configurations, whole, [(each,) for each in whole])

    def sample(
        self, configurations: Configurations, windows: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on some windows only; see `ScoringBackend`."""
        at_once = self._batches.windows_at_once
        everything = tuple(_batched(range(self._window_count), at_once))
        picked = _batched(windows, at_once)
        return self._scores(configurations, picked, [everything for _ in picked])

    def slopes(
        self,
        configurations: Configurations,  # noqa: ARG002
        asked: Sequence[Asked],  # noqa: ARG002
        *,
        gates: bool,  # noqa: ARG002
    ) -> Iterator[tuple[int, Slopes]]:
        """Refuse; see `ScoringBackend`.

        Raises:
            SettingsError: Always.
        """
        raise SettingsError(
            "gradients need all layers in one process, and the stages of a pipeline hold some "
            "each; leave out `--pipeline`"
        )

    def expect(self, parents: Configurations) -> None:
        """Do nothing: stages keep layers, and no hidden states; see `ScoringBackend`."""

    def _scores(
        self,
        configurations: Configurations,
        windows: Sequence[Windows],
        parts: Sequence[tuple[Windows, ...]],
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on batches, given the dense model's own batches for each."""
        self._layer_builder.make(configurations)
        state_bytes = max(map(len, windows)) * self._window_tokens * self._token_bytes
        passing = Passing(
            self._route,
            configurations,
            [
                TextBatch(index=index, windows=each, parts=of_each)
                for index, (each, of_each) in enumerate(zip(windows, parts, strict=True))
            ],
            window_tokens=self._window_tokens,
            at_once=max(2, self._sweep_bytes // state_bytes),
        )
        return passing.run()


@dataclass(frozen=True, kw_only=True)
class Route:
    """What all populations pass through."""

    line: StageLine
    text: Hashable
    """Which windows, and how finely they are scored."""
    metrics: Sequence[str]
    running_order: Sequence[int]
    """Positions of components as they run."""
    borders: Sequence[int]
    """Components as they run up to the end of each stage."""
    dense: Configurations
    """``(1, components)``"""
    teachers: dict[Windows, Path]
    """The dense model's hidden states before the last stage, by the windows of its batches."""

    @property
    def last(self) -> int:
        """Number of the last stage."""
        return len(self.borders) - 1


class Passing:
    """One population on its way through the stages.

    Args:
        route: The stages.
        configurations: ``(candidates, components)``
        batches: Of text.
        window_tokens: Tokens of a window.
        at_once: Hidden states of a batch that may lie before one stage, at least 2.
    """

    def __init__(
        self,
        route: Route,
        configurations: Configurations,
        batches: Sequence[TextBatch],
        *,
        window_tokens: int,
        at_once: int,
    ) -> None:
        self._route = route
        self._configurations = configurations
        # in C order, for prefixes of rows are known by their bytes
        self._as_run = np.ascontiguousarray(configurations[:, route.running_order])
        self._batches = batches
        self._window_tokens = window_tokens
        self._at_once = at_once
        order = np.lexsort(self._as_run.T[::-1])  # as the tree is walked: neighbours share most
        pieces = np.split(order, range(at_once // 2, len(order), at_once // 2))
        self._waiting = deque((batch, piece) for batch in batches for piece in pieces)
        self._flying = 0
        """Candidates on their way, once for each batch."""
        self._asked = set(route.teachers)
        self._found: list[dict[int, Score]] = [{} for _ in configurations]
        """Of each candidate by batch."""
        self._seconds = np.zeros(len(configurations))
        self._lost: set[int] = set()

    def run(self) -> Generator[tuple[int, Score]]:
        """Yield candidates as they come out; see `ScoringBackend`.

        Raises:
            ModelError: If workers died on the dense model.
        """
        self._route.line.begin()
        self._let_in()
        for passage, group, result in self._route.line.landings():
            if passage.part is not None:
                self._dense_landed(passage, passage.part, result)
            elif isinstance(result, Lost):
                yield from self._lose(passage.groups[group], result)
            elif isinstance(result, Score):
                yield from self._come_out(passage, passage.groups[group], result)
            else:
                members = passage.groups[group]
                self._seconds[members] += result / len(members)
                self._enter(passage.stage + 1, passage.batch, members, passage.leaving[group])
            self._let_in()

    def _let_in(self) -> None:
        """Give the first stage as many candidates as their hidden states allow."""
        while self._waiting and self._flying + len(self._waiting[0][1]) <= self._at_once:
            batch, piece = self._waiting.popleft()
            for part in set(batch.parts) - self._asked:  # the dense model goes first
                self._asked.add(part)
                self._run_dense(0, batch, part, None)
            members = np.array([m for m in piece.tolist() if m not in self._lost], dtype=np.int_)
            if len(members):
                self._flying += len(members)
                self._enter(0, batch, members, None)

    def _enter(
        self, stage: int, batch: TextBatch, members: Members, entering: Path | None
    ) -> None:
        """Give a stage candidates that agree up to it."""
        by_prefix: dict[bytes, list[int]] = {}
        for member in members.tolist():
            prefix = self._as_run[member, : self._route.borders[stage]].tobytes()
            by_prefix.setdefault(prefix, []).append(member)
        groups = [np.array(group) for group in by_prefix.values()]
        is_last, line = stage == self._route.last, self._route.line
        leaving = [] if is_last else [line.file() for _ in groups]
        teachers = {part: self._route.teachers[part] for part in batch.parts} if is_last else {}
        task = Task(
            method="advance",
            text=self._route.text,
            configurations=self._configurations[[group[0] for group in groups]],
            arguments={"windows": batch.windows, "entering": entering, "teachers": teachers},
            of_each={"leaving": leaving} if leaving else {},
        )
        line.give(
            Passage(stage=stage, batch=batch, groups=groups, entering=entering, leaving=leaving),
            task,
        )

    def _run_dense(
        self, stage: int, batch: TextBatch, part: Windows, entering: Path | None
    ) -> None:
        leaving = [self._route.line.file()]
        task = Task(
            method="dense",
            text=self._route.text,
            configurations=self._route.dense,
            arguments={"windows": part, "entering": entering},
            of_each={"leaving": leaving},
        )
        passage = Passage(
            stage=stage, batch=batch, groups=(), entering=entering, leaving=leaving, part=part
        )
        self._route.line.give(passage, task)

    def _dense_landed(self, passage: Passage, part: Windows, result: object) -> None:
        (path,) = passage.leaving
        if isinstance(result, Lost):
            raise ModelError(
                f"the dense model must pass through all stages, and {result.reason}; set "
                "more `--workers`, or lower `--window_tokens`"
            )
        if passage.stage + 1 < self._route.last:
            self._run_dense(passage.stage + 1, passage.batch, part, path)
        else:
            self._route.teachers[part] = path

    def _come_out(
        self, passage: Passage, members: Members, score: Score
    ) -> Iterator[tuple[int, Score]]:
        self._flying -= len(members)
        self._seconds[members] += score.seconds / len(members)
        for member in members.tolist():
            found = self._found[member]
            found[passage.batch.index] = score
            if len(found) == len(self._batches) and member not in self._lost:
                whole = reduce(Score.then, (found[batch.index] for batch in self._batches))
                yield member, replace(whole, seconds=float(self._seconds[member]))

    def _lose(self, members: Members, lost: Lost) -> Iterator[tuple[int, Score]]:
        self._flying -= len(members)
        windows = sum(len(batch.windows) for batch in self._batches)
        for member in members.tolist():
            if member not in self._lost:
                self._lost.add(member)
                metrics, tokens = self._route.metrics, windows * self._window_tokens
                yield member, Score.failed(metrics, windows, tokens, lost.reason)


def _batched(windows: Sequence[int], at_once: int) -> list[Windows]:
    return [tuple(windows[start : start + at_once]) for start in range(0, len(windows), at_once)]
