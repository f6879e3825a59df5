"""Scoring candidates against the dense model on common tokens, with standard errors."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.costs.macs import tally_macs
from evaluators.quality import SEARCH_METRICS
from evaluators.runtime.allocator import keep_pages
from evaluators.scoring.dense_pass import Pool
from evaluators.scoring.gate_gradients import Slopes, gate_slopes
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.readout import Readout
from evaluators.scoring.score import Score, is_finite
from evaluators.scoring.state_cache import STATE_BYTES, States
from search_spaces.errors import SettingsError
from search_spaces.models.memory import is_out_of_memory
from search_spaces.space.configuration import Configurations, unit_counts
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.apply import LayerBuilder

logger = logging.getLogger(__name__)

HEADS_AT_ONCE = 8
"""Candidates for which one chunk of the teacher's logits is computed."""
GRADIENT_TOKENS = 512
"""Tokens at once where gradients are wanted: all that a pass computes must be held."""
SWEEP_BYTES = 512 * 2**20
"""Default bound on the hidden states that go through a streamed model at once."""


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How finely candidates are scored, and in which portions."""

    rungs: tuple[int, ...] = ()
    """Windows scored after each portion, ascending up to all of them; none: all at once."""
    positions: int | None = None
    """Positions scored in each window, drawn by the seed; none: all that have a next token."""
    seed: int = 0
    metrics: tuple[str, ...] = SEARCH_METRICS
    batch_tokens: int = 4096
    """Tokens run at once; halved where memory runs out."""
    state_bytes: int = STATE_BYTES
    """Bound on the hidden states that are kept between calls."""
    sweep_bytes: int = SWEEP_BYTES
    """Bound on the hidden states that stand at once where layers are streamed; halved likewise."""


@dataclass(frozen=True)
class _Batch:
    inputs: LayerInputs
    readout: Readout
    tokens: int


@dataclass
class _Reading:
    """What was measured of a candidate in one rung so far."""

    parts: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    seconds: float = 0.0


class Evaluator:
    """Scores candidates of one model on one set of windows, a rung of windows at a time.

    Args:
        structure: The model, its units sorted.
        windows: Token ids ``(windows, tokens)``, at least two tokens each.
        fidelity: How finely.
        layer_builder: Gives layers their forms; none: parts of the dense ones.
    """

    def __init__(
        self,
        structure: ModelStructure,
        windows: Tensor,
        fidelity: Fidelity | None = None,
        *,
        layer_builder: LayerBuilder | None = None,
    ) -> None:
        keep_pages()
        self._fidelity = fidelity or Fidelity()
        self._structure = structure
        self._windows = windows
        self.rungs = self._fidelity.rungs or (len(windows),)
        self._shaper = layer_builder or LayerBuilder(structure)
        self.tree = PrefixTree(structure, self._shaper)
        self.positions = _positions(windows, self._fidelity)
        at_once = self._fidelity.batch_tokens // windows.shape[1]
        self._at_once = max(1, min(at_once, len(windows)))
        self._gradient_windows = max(1, GRADIENT_TOKENS // windows.shape[1])
        self._sweep_bytes = self._fidelity.sweep_bytes
        self._batches: dict[int, list[_Batch]] = {}
        self._pool: Pool | None = None
        self._passed = np.zeros(len(self.rungs))  # candidates that were scored on each rung
        macs = tally_macs(structure, self._shaper.block_options, windows.shape[1])
        self._head_work = macs.rest * self.positions.shape[1] / windows.shape[1]
        self._dense_work = sum(float(table.max()) for table in macs.tables) + self._head_work
        self.states = States(self.tree.steps, macs.tables, self._fidelity.state_bytes)

    def score(
        self, configurations: Configurations, rung: int | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates; each is given as soon as it is known.

        Args:
            configurations: Forms, ``(candidates, components)``.
            rung: Score the windows of this rung only; none: all windows.

        Yields:
            Position of the candidate, and its score on these windows. A score does not depend on
            the company, and the windows are the same for all.

        Raises:
            SettingsError: Where memory does not suffice for a single window.
        """
        rungs = range(len(self.rungs)) if rung is None else [rung]
        scores: dict[int, Score] = {}
        for number in rungs:
            for member, score in self._score_rung(configurations, number):
                scores[member] = scores[member].then(score) if member in scores else score
                if number == rungs[-1]:
                    yield member, scores[member]

    def sample(
        self, configurations: Configurations, windows: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on some windows only, in the order given; yields as `score` does."""
        return self._until_done(
            configurations, lambda waiting: self._attempt_sample(waiting, windows)
        )

    def slopes(self, configurations: Configurations) -> Iterator[tuple[int, Slopes]]:
        """Differentiate KL to the dense model by a gate on every unit, kept or not.

        On the windows of the first rung.

        Args:
            configurations: Forms, ``(candidates, components)``.

        Yields:
            Position of the candidate, and its slopes.

        Where memory runs out, fewer windows are differentiated at once.
        """
        for member, kept in enumerate(configurations):
            done: list[tuple[int, Slopes]] = []
            while not done:
                try:
                    parts = self._gradient_parts()
                    done.append((member, gate_slopes(self._structure, parts, kept, self._shaper)))
                except (MemoryError, RuntimeError) as error:
                    if not is_out_of_memory(error) or self._gradient_windows == 1:
                        raise
                    self._gradient_windows = (self._gradient_windows + 1) // 2
            yield from done

    def _gradient_parts(self) -> list[tuple[Tensor, Tensor]]:
        """Divide the first rung into what a gradient takes at once."""
        at_once = self._gradient_windows
        tokens = self._windows[: self.rungs[0]].to(self._structure.backbone.model.device)
        finals = torch.cat([batch.inputs.final for batch in self._rung_batches(0)])
        parts = zip(torch.split(tokens, at_once), torch.split(finals, at_once), strict=True)
        # made in inference mode, which autograd does not take
        return [(ids, final.clone()) for ids, final in parts]

    def expect(self, parents: Configurations) -> None:
        """Keep the hidden states from which children of these candidates can start.

        Args:
            parents: Forms, ``(parents, components)``; the dense model need not be among them.
        """
        dense = unit_counts(self._structure.components)[None]
        share = self._passed / max(1.0, self._passed[0])
        sizes = {
            _key(rung, index): (batch.inputs.hidden.nbytes, float(share[rung]))
            for rung, batches in self._batches.items()
            for index, batch in enumerate(batches)
        }
        self.states.expect(np.unique(np.concatenate([dense, parents]), axis=0), sizes)

    def price(self, configurations: Configurations) -> NDArray[np.float64]:
        """Tell what scoring each candidate by itself would cost now, given what is kept.

        Args:
            configurations: Forms, ``(candidates, components)``.

        Returns:
            Multiply–accumulates on the first rung, as a share of the dense model's,
            ``(candidates,)``.
        """
        left = self.states.work_left(_key(0, 0), configurations)
        shares: NDArray[np.float64] = (left + self._head_work) / self._dense_work
        return shares

    def _score_rung(
        self, configurations: Configurations, rung: int
    ) -> Iterator[tuple[int, Score]]:
        yield from self._until_done(
            configurations, lambda waiting: self._attempt_rung(waiting, rung)
        )
        self._passed[rung] += len(configurations)

    def _until_done(
        self,
        configurations: Configurations,
        attempt: Callable[[Configurations], Iterator[tuple[int, Score]]],
    ) -> Iterator[tuple[int, Score]]:
        """Attempt the candidates that are left, with smaller batches where memory ran out."""
        waiting = np.arange(len(configurations))
        while len(waiting):
            landed: list[int] = []
            try:
                for position, score in attempt(configurations[waiting]):
                    landed.append(position)
                    yield int(waiting[position]), score
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            waiting = np.delete(waiting, landed)

    def _attempt_rung(
        self, configurations: Configurations, rung: int
    ) -> Iterator[tuple[int, Score]]:
        if rung == 0:
            self.states.observe(configurations)
        batches = self._rung_batches(rung)
        return self._attempt(configurations, batches, [_key(rung, i) for i in range(len(batches))])

    def _attempt_sample(
        self, configurations: Configurations, windows: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        parts = [windows[i : i + self._at_once] for i in range(0, len(windows), self._at_once)]
        return self._attempt(configurations, [self._sampled(part) for part in parts])

    def _attempt(
        self, configurations: Configurations, batches: Sequence[_Batch], keys: Sequence[int] = ()
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on batches, and keep hidden states of those that have a key."""
        readings = [_Reading() for _ in configurations]
        started = time.monotonic()
        for index, company, measured in self._companies(configurations, batches, keys):
            landed = time.monotonic()
            # a sweep is done for all of its candidates before the first of them lands
            sharers = range(len(configurations)) if self._structure.backbone.streamed else company
            for member in sharers:
                readings[member].seconds += (landed - started) / len(sharers)
            for member, values in zip(company, measured, strict=True):
                readings[member].parts.append(values)
            if index == len(batches) - 1:
                tokens = sum(batch.tokens for batch in batches)
                yield from ((member, self._score(readings[member], tokens)) for member in company)
            started = time.monotonic()  # the caller's time since then is not counted

    @torch.inference_mode()
    def _companies(
        self, configurations: Configurations, batches: Sequence[_Batch], keys: Sequence[int]
    ) -> Iterator[tuple[int, list[int], list[dict[str, NDArray[np.float64]]]]]:
        """Give candidates in small companies: the batch, its members and what was measured."""
        walk = self._walk(configurations, batches, keys)
        for index, arriving in groupby(walk, key=lambda arrival: arrival[0]):
            readout = batches[index].readout
            while company := list(islice(arriving, HEADS_AT_ONCE)):
                yield index, [m for _, m, _ in company], readout.compare([f for *_, f in company])

    def _walk(
        self, configurations: Configurations, batches: Sequence[_Batch], keys: Sequence[int]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Give the batch, the candidate and those of its final hidden states that are scored."""
        if self._structure.backbone.streamed:
            yield from self._sweep(configurations, batches)
            return
        for index, batch in enumerate(batches):
            starts = keep = None
            if keys:
                starts = self.states.starts(keys[index], configurations, batch.inputs.hidden)
                keep = self.states.keeper(keys[index])
            for member, final in self.tree.walk(configurations, batch.inputs, starts, keep):
                yield index, member, batch.readout.pick(final)

    def _sweep(
        self, configurations: Configurations, batches: Sequence[_Batch]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Walk layer by layer, as many candidates at a time as their hidden states allow."""
        each = sum(batch.inputs.hidden.nbytes for batch in batches)
        group = max(1, self._sweep_bytes // each)
        inputs = [batch.inputs for batch in batches]
        for first in range(0, len(configurations), group):
            walk = self.tree.walk_by_layer(configurations[first : first + group], inputs)
            for index, member, final in walk:
                yield index, first + member, batches[index].readout.pick(final)

    def _rung_batches(self, rung: int) -> list[_Batch]:
        """Give the batches of a rung, with the dense model's side of each."""
        if rung not in self._batches:
            start = self.rungs[rung - 1] if rung else 0
            parts = range(start, self.rungs[rung], self._at_once)
            self._batches[rung] = [
                self._prepare(slice(first, min(first + self._at_once, self.rungs[rung])))
                for first in parts
            ]
        return self._batches[rung]

    @torch.inference_mode()
    def _prepare(self, part: slice) -> _Batch:
        tokens = self._windows[part].to(self._structure.backbone.model.device)
        return self._batch(tokens, self._structure.backbone.enter(tokens), self.positions[part])

    @torch.inference_mode()
    def _sampled(self, windows: Sequence[int]) -> _Batch:
        """Give a batch of any windows, put together from one dense pass over all of them."""
        if self._pool is None:
            self._pool = Pool(self._structure.backbone, self._windows, self._at_once)
        tokens, inputs = self._pool.pick(windows)
        return self._batch(tokens, inputs, self.positions[list(windows)])

    def _batch(self, tokens: Tensor, inputs: LayerInputs, positions: NDArray[np.int_]) -> _Batch:
        readout = Readout(
            self._structure.backbone,
            tokens,
            inputs.final,
            positions,
            self._fidelity.metrics,
        )
        return _Batch(inputs, readout, tokens.numel())

    def _score(self, reading: _Reading, tokens: int) -> Score:
        by_window = {
            name: np.concatenate([part[name] for part in reading.parts])
            for name in self._fidelity.metrics
        }
        return Score(
            by_window=by_window,
            tokens=tokens,
            seconds=reading.seconds,
            failure=None if is_finite(by_window) else "its logits hold NaN or infinity",
        )

    def _halve(self, error: BaseException) -> None:
        """Make the batches half as large and let go of all that can be made again."""
        if self._at_once == 1:
            raise SettingsError(
                "memory must suffice for one window of "
                f"{self._windows.shape[1]} tokens, and it does not: "
                f"{str(error).partition(chr(10))[0]}; lower `--window_tokens`"
            ) from error
        self._at_once = (self._at_once + 1) // 2
        self._sweep_bytes //= 2
        self._batches.clear()
        self._pool = None
        self.states.forget()
        logger.warning(
            "out of memory: going on with %d windows at once, half as many", self._at_once
        )


def _key(rung: int, index: int) -> int:
    """Name a batch by one number, for the states that are kept of it."""
    return (rung << 32) + index


def _positions(windows: Tensor, fidelity: Fidelity) -> NDArray[np.int_]:
    """Draw the positions that are scored in each window, ``(windows, positions)``, ascending."""
    count, length = windows.shape
    wanted = min(fidelity.positions or length, length - 1)
    rng = np.random.default_rng(fidelity.seed)
    drawn = [rng.choice(length - 1, size=wanted, replace=False) for _ in range(count)]
    return np.sort(np.array(drawn, dtype=np.int_), axis=1)
