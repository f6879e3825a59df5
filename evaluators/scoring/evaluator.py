"""Scoring candidates against the dense model on common tokens, with standard errors."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.costs.macs import products_table
from evaluators.runtime.allocator import keep_pages
from evaluators.scoring.batches import Batch, Fidelity, WindowBatches
from evaluators.scoring.gate_gradients import GateGradients, gate_gradients
from evaluators.scoring.memory_retry import until_done
from evaluators.scoring.output_fisher import Asked, OptionSensitivities, output_fisher
from evaluators.scoring.prefix_tree import PrefixTree
from evaluators.scoring.score import Score, is_finite
from evaluators.scoring.state_cache import StateCache
from search_spaces.errors import SettingsError
from search_spaces.space.configuration import Configurations, dense_configurations
from search_spaces.space.sorted_model import SortedModel
from search_spaces.surgery.layer_builder import LayerBuilder

logger = logging.getLogger(__name__)

HEADS_AT_ONCE = 8
"""Candidates for which one chunk of the teacher's logits is computed."""


@dataclass
class _PartialScore:
    """What was measured of a candidate in one rung so far."""

    parts: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    seconds: float = 0.0


class Evaluator:
    """Scores candidates of one model on one set of windows, a rung of windows at a time.

    Args:
        sorted_model: The model.
        windows: Token ids ``(windows, tokens)``, at least two tokens each.
        fidelity: How finely.
        layer_builder: Builds layers in a configuration; None: from slices of the dense ones.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        windows: Tensor,
        fidelity: Fidelity | None = None,
        *,
        layer_builder: LayerBuilder | None = None,
    ) -> None:
        keep_pages()
        self._fidelity = fidelity or Fidelity()
        self._sorted_model = sorted_model
        self._structure = structure = sorted_model.structure
        self._window_tokens = windows.shape[1]
        self._layer_builder = layer_builder or LayerBuilder(sorted_model)
        self._batches = WindowBatches(structure.backbone, windows, self._fidelity)
        self.rungs = self._batches.rungs
        self.positions = self._batches.positions
        self.tree = PrefixTree(sorted_model, self._layer_builder)
        self._sweep_bytes = self._fidelity.sweep_bytes
        self._scored_counts = np.zeros(len(self.rungs))  # candidates scored on each rung
        macs = products_table(structure, self._layer_builder.block_options, windows.shape[1])
        work = [macs.tables[position] for position in self.tree.running_order]
        self.states = StateCache(self.tree.running_steps, work, self._fidelity.state_bytes)

    def score(
        self, configurations: Configurations, rung: int | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates; each is yielded as soon as its score is complete.

        Args:
            configurations: ``(candidates, components)``
            rung: Score the windows of this rung only; None: all windows.

        Yields:
            Position of the candidate, and its score on these windows. A score does not depend on
            the company, and the windows are the same for all.

        Raises:
            SettingsError: If memory does not suffice for a single window.
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

        def attempt(waiting: Configurations) -> Iterator[tuple[int, Score]]:
            return self._score_batches(waiting, self._batches.sampled(windows))

        return until_done(configurations, attempt, self._halve)

    def gate_gradients(
        self, configurations: Configurations
    ) -> Iterator[tuple[int, GateGradients]]:
        """Differentiate KL to the dense model by a gate on every unit, kept or not.

        On the windows of the first rung, fewer at once if memory runs out.

        Args:
            configurations: ``(candidates, components)``

        Yields:
            Position of the candidate, and its gradient.
        """

        def attempt(waiting: Configurations) -> Iterator[tuple[int, GateGradients]]:
            for member, candidate in enumerate(waiting):
                parts = self._batches.for_gradients()
                yield (
                    member,
                    gate_gradients(self._sorted_model, parts, candidate, self._layer_builder),
                )

        return until_done(configurations, attempt, self._halve_gradients)

    def option_sensitivities(
        self, candidate: NDArray[np.int_], asked: Asked
    ) -> OptionSensitivities:
        """Estimate what options of single components do inside a candidate ``(components,)``.

        On the windows of the first rung, fewer at once if memory runs out; see `output_fisher`.

        Args:
            candidate: Its configurations.
            asked: Configurations of components, each dense but for one option.
        """

        def attempt(_: Configurations) -> Iterator[tuple[int, OptionSensitivities]]:
            parts = self._batches.for_gradients()
            yield 0, output_fisher(self.tree, parts, candidate, asked)

        ((_, found),) = until_done(candidate[None], attempt, self._halve_gradients)
        return found

    def expect(self, parents: Configurations) -> None:
        """Keep the hidden states from which children of these candidates can start.

        Args:
            parents: ``(parents, components)``; the dense model need not be among them.
        """
        dense = dense_configurations(self._structure.components)[None]
        shares = self._scored_counts / max(1.0, self._scored_counts[0])
        sizes = {
            key: (state_bytes, float(shares[rung]))
            for rung, key, state_bytes in self._batches.state_sizes()
        }
        expected = np.unique(np.concatenate([dense, parents]), axis=0)
        self.states.expect(self._as_run(expected), sizes)

    def _score_rung(
        self, configurations: Configurations, rung: int
    ) -> Iterator[tuple[int, Score]]:
        def attempt(waiting: Configurations) -> Iterator[tuple[int, Score]]:
            if rung == 0:
                self.states.observe(self._as_run(waiting))
            batches = self._batches.of_rung(rung)
            return self._score_batches(waiting, batches, self._batches.keys(rung))

        yield from until_done(configurations, attempt, self._halve)
        self._scored_counts[rung] += len(configurations)

    def _score_batches(
        self, configurations: Configurations, batches: Sequence[Batch], keys: Sequence[int] = ()
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on batches, and keep hidden states of those that have a key."""
        partial_scores = [_PartialScore() for _ in configurations]
        started = time.monotonic()
        for index, members, measured in self._measured(configurations, batches, keys):
            landed = time.monotonic()
            # a sweep is done for all of its candidates before the first of them lands
            sharers = range(len(configurations)) if self._structure.backbone.streamed else members
            for member in sharers:
                partial_scores[member].seconds += (landed - started) / len(sharers)
            for member, values in zip(members, measured, strict=True):
                partial_scores[member].parts.append(values)
            if index == len(batches) - 1:
                tokens = sum(batch.token_count for batch in batches)
                for member in members:
                    yield member, self._complete(partial_scores[member], tokens)
            started = time.monotonic()  # the caller's time since then is not counted

    @torch.inference_mode()
    def _measured(
        self, configurations: Configurations, batches: Sequence[Batch], keys: Sequence[int]
    ) -> Iterator[tuple[int, list[int], list[dict[str, NDArray[np.float64]]]]]:
        """Yield a batch, a few candidates that share its teacher's logits, and their metrics."""
        walk = self._walk(configurations, batches, keys)
        ends = self.tree.ends
        heads = ends.choices(ends.head, configurations)
        for index, arriving in groupby(walk, key=lambda arrival: arrival[0]):
            readout = batches[index].readout
            while group := list(islice(arriving, HEADS_AT_ONCE)):
                # a head is in memory while all that are read out with it are
                ordered = sorted(group, key=lambda arrival: int(heads[arrival[1]]))
                for head, alike in groupby(ordered, key=lambda arrival: int(heads[arrival[1]])):
                    members, finals = zip(*((m, final) for _, m, final in alike), strict=True)
                    yield index, list(members), readout.compare(finals, ends.reading(head))

    def _walk(
        self, configurations: Configurations, batches: Sequence[Batch], keys: Sequence[int]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Yield the batch, the candidate and those of its final hidden states that are scored."""
        if self._structure.backbone.streamed:
            yield from self._sweep(configurations, batches)
            return
        for index, batch in enumerate(batches):
            starts = on_state = None
            if keys:
                rest, starts = self.states.starts(keys[index], self._as_run(configurations))
                starts = [*self.tree.roots(configurations, batch.inputs, rest), *starts]
                on_state = self.states.keeper(keys[index])
            for member, final in self.tree.walk(configurations, batch.inputs, starts, on_state):
                yield index, member, batch.readout.pick(final)

    def _sweep(
        self, configurations: Configurations, batches: Sequence[Batch]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Walk layer by layer, as many candidates at a time as their hidden states allow."""
        bytes_each = sum(batch.inputs.hidden.nbytes for batch in batches)
        group = max(1, self._sweep_bytes // bytes_each)
        inputs = [batch.inputs for batch in batches]
        for first in range(0, len(configurations), group):
            walk = self.tree.walk_by_layer(configurations[first : first + group], inputs)
            for index, member, final in walk:
                yield index, first + member, batches[index].readout.pick(final)

    def _as_run(self, configurations: Configurations) -> Configurations:
        """Return configurations with components as they run, as states are kept by."""
        # in C order, for prefixes of rows are known by their bytes
        return np.ascontiguousarray(configurations[:, self.tree.running_order])

    def _complete(self, partial_score: _PartialScore, tokens: int) -> Score:
        by_window = {
            name: np.concatenate([part[name] for part in partial_score.parts])
            for name in self._fidelity.metrics
        }
        return Score(
            by_window=by_window,
            tokens=tokens,
            seconds=partial_score.seconds,
            failure=None if is_finite(by_window) else "its logits hold NaN or infinity",
        )

    def _halve(self, error: BaseException) -> None:
        """Make the batches half as large and release all that can be computed again."""
        if not self._batches.halve():
            raise SettingsError(
                f"memory must suffice for one window of {self._window_tokens} tokens, and it does "
                f"not: {str(error).partition(chr(10))[0]}; lower `--window_tokens`"
            ) from error
        self._sweep_bytes //= 2
        self.states.forget()
        logger.warning(
            "out of memory: going on with %d windows at once, half as many",
            self._batches.windows_at_once,
        )

    def _halve_gradients(self, error: BaseException) -> None:
        if not self._batches.halve_gradients():
            raise error
