"""A scoring backend whose candidates are scored by workers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from evaluators.backends.population_cut import PopulationCutter
from evaluators.backends.work import Work
from evaluators.scoring.by_gradient.output_fisher import Asked
from evaluators.scoring.by_gradient.slopes import Slopes
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import Members
from evaluators.scoring.score import Score
from planner.preparation.prepared_model import PreparedModel
from planner.workers.assignment import Lost
from planner.workers.messages import Expect, Task
from planner.workers.scored_run import ScoredText, make_evaluator
from planner.workers.worker_pool import WorkerPool
from search_spaces.errors import ModelError
from search_spaces.space.configuration import Configurations


class PoolBackend:
    """Cuts populations, lets workers score the parts, and puts together what lands.

    Args:
        pool: The workers.
        prepared: The model that they score.
        text: What they score it on.
    """

    def __init__(self, pool: WorkerPool, prepared: PreparedModel, text: ScoredText) -> None:
        self._prepared = prepared
        windows = getattr(prepared.calibration, text.split)
        self._pool = pool
        self._text = text
        self._metrics = text.fidelity.metrics
        self._window_tokens = windows.shape[1]
        self._cutter, self._running_order = PopulationCutter.of(
            prepared.sorted_model, prepared.layer_builder, self._window_tokens
        )
        self.rungs: tuple[int, ...] = text.fidelity.rungs or (len(windows),)

    def score(
        self, configurations: Configurations, rung: int | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates; see `ScoringBackend`."""
        before, upto = (0, -1) if rung is None else (rung, rung)
        windows = self.rungs[upto] - (0, *self.rungs)[before]
        task = Task(
            method="score",
            text=self._text,
            configurations=configurations,
            arguments={"rung": rung},
        )
        return self._scores(task, windows)

    def sample(
        self, configurations: Configurations, windows: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on some windows only; see `ScoringBackend`."""
        task = Task(
            method="sample",
            text=self._text,
            configurations=configurations,
            arguments={"windows": windows},
        )
        return self._scores(task, len(windows))

    def slopes(
        self, configurations: Configurations, asked: Sequence[Asked], *, gates: bool
    ) -> Iterator[tuple[int, Slopes]]:
        """Estimate what small steps change; see `ScoringBackend`.

        That of one candidate is not shared out: the search itself takes it, which has nothing
        else to do and as many threads as all workers together. Of more, workers take each one.

        Raises:
            ModelError: If workers died on one.
        """
        if len(configurations) == 1:
            yield from self._here.slopes(configurations, asked, gates=gates)
            return
        for options in asked:
            self._prepared.layer_builder.make_options(options)
        task = Task(
            method="slopes",
            text=self._text,
            configurations=configurations,
            arguments={"gates": gates},
            of_each={"asked": asked},
        )
        each = [np.array([member]) for member in range(len(asked))]
        for _, index, result in self._landed(task, each, [None] * len(each)):
            if isinstance(result, Lost):
                raise ModelError(
                    f"gradients must be taken of what is searched from, and {result.reason}; set "
                    "another `--searcher`, or use fewer workers"
                )
            yield index, result

    @cached_property
    def _here(self) -> Evaluator:
        return make_evaluator(self._prepared, self._text)

    def expect(self, parents: Configurations) -> None:
        """Prepare for children of these candidates; see `ScoringBackend`."""
        self._pool.expect(Expect(text=self._text, parents=parents))

    def _scores(self, task: Task, windows: int) -> Iterator[tuple[int, Score]]:
        cut = self._cutter.cut(task.configurations[:, self._running_order], self._pool.size)
        seconds = np.zeros(len(cut.parts))
        for position, index, result in self._landed(task, cut.parts, cut.works):
            score = self._failed(result, windows) if isinstance(result, Lost) else result
            seconds[position] += score.seconds
            yield index, score
        for amounts, of_part in zip(cut.amounts, seconds.tolist(), strict=True):
            self._cutter.seconds.learn(amounts, of_part / windows)

    def _landed(
        self, task: Task, parts: Sequence[Members], works: Sequence[Work | None]
    ) -> Iterator[tuple[int, int, Any]]:
        """Yield candidates of a task as they land: the part, the candidate, what came of it."""
        self._prepared.layer_builder.make(task.configurations)
        tasks = [
            replace(task.part(part.tolist()), work=work)
            for part, work in zip(parts, works, strict=True)
        ]
        for (position, member), result in self._pool.run(tasks):
            yield position, int(parts[position][member]), result

    def _failed(self, lost: Lost, windows: int) -> Score:
        tokens = windows * self._window_tokens
        return Score.failed(self._metrics, windows, tokens, lost.reason)
