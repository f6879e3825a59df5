"""Scoring candidates against the dense model on common tokens, with standard errors."""

import logging
import time
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evaluators.costs.macs import products_table
from evaluators.runtime.allocator import keep_pages
from evaluators.scoring.batches import Fidelity, WindowBatches
from evaluators.scoring.by_gradient.gate_gradients import GateGradients, gate_gradients
from evaluators.scoring.by_gradient.output_fisher import Asked, OptionSensitivities, output_fisher
from evaluators.scoring.by_gradient.slopes import Slopes
from evaluators.scoring.memory_retry import until_done
from evaluators.scoring.passes.population_pass import PopulationPass
from evaluators.scoring.prefix_tree import Keep, Members, PrefixTree, keep_all
from evaluators.scoring.score import Score
from evaluators.scoring.state_cache import StateCache
from search_spaces.errors import SettingsError
from search_spaces.space.configuration import Configurations, dense_configurations
from search_spaces.space.sorted_model import SortedModel
from search_spaces.surgery.layer_builder import LayerBuilder

logger = logging.getLogger(__name__)


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
        self._scored_counts = np.zeros(len(self.rungs))  # candidates scored on each rung
        macs = products_table(structure, self._layer_builder.block_options, windows.shape[1])
        work = [macs.tables[position] for position in self.tree.running_order]
        self.states = StateCache(self.tree.running_steps, work, self._fidelity.state_bytes)
        self._pass = PopulationPass(self.tree, self.states, self._fidelity.sweep_bytes)

    def score(
        self, configurations: Configurations, rung: int | None = None, *, keep: Keep = keep_all
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates; see `ScoringBackend`.

        Args:
            configurations: ``(candidates, components)``
            rung: As there.
            keep: Says which candidates are not given up; others are not yielded.

        Yields:
            A score does not depend on the company, and the windows are the same for all.
        """
        rungs = range(len(self.rungs)) if rung is None else [rung]

        def attempt(members: Members) -> Iterator[tuple[int, Score]]:
            waiting = configurations[members]
            if rungs[0] == 0:
                self.states.observe(self._pass.as_run(waiting))
            batches = [batch for number in rungs for batch in self._batches.of_rung(number)]
            keys = [key for number in rungs for key in self._batches.keys(number)]
            return self._pass.scores(waiting, batches, keys, _among(members, keep))

        self._scored_counts[list(rungs)] += len(configurations)
        return until_done(np.arange(len(configurations)), attempt, self._halve)

    def sample(
        self, configurations: Configurations, windows: Sequence[int], *, keep: Keep = keep_all
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on some windows only, in the order given; else as `score` does."""

        def attempt(members: Members) -> Iterator[tuple[int, Score]]:
            batches = self._batches.sampled(windows)
            return self._pass.scores(configurations[members], batches, keep=_among(members, keep))

        return until_done(np.arange(len(configurations)), attempt, self._halve)

    def slopes(
        self, configurations: Configurations, asked: Sequence[Asked], *, gates: bool
    ) -> Iterator[tuple[int, Slopes]]:
        """Estimate what small steps from candidates change; see `ScoringBackend`."""
        for member in range(len(configurations)):
            started = time.monotonic()
            own = configurations[member : member + 1]
            found = next(self.gate_gradients(own))[1] if gates else None
            options = self.option_sensitivities(own[0], asked[member]) if asked[member] else {}
            yield (
                member,
                Slopes(gates=found, options=options, seconds=time.monotonic() - started),
            )

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

        def attempt(members: Members) -> Iterator[tuple[int, GateGradients]]:
            for member, candidate in enumerate(configurations[members]):
                texts = self._batches.for_gradients()
                yield (
                    member,
                    gate_gradients(self._sorted_model, texts, candidate, self._layer_builder),
                )

        return until_done(np.arange(len(configurations)), attempt, self._halve_gradients)

    def option_sensitivities(
        self, candidate: NDArray[np.int_], asked: Asked
    ) -> OptionSensitivities:
        """Estimate what options of single components do inside a candidate ``(components,)``.

        On the windows of the first rung, fewer at once if memory runs out; see `output_fisher`.

        Args:
            candidate: Its configurations.
            asked: Configurations of components, each dense but for one option.
        """

        def attempt(_: Members) -> Iterator[tuple[int, OptionSensitivities]]:
            texts = self._batches.for_gradients()
            yield 0, output_fisher(self.tree, texts, candidate, asked)

        ((_, found),) = until_done(np.arange(1), attempt, self._halve_gradients)
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
        self.states.expect(self._pass.as_run(expected), sizes)

    @property
    def windows_at_once(self) -> int:
        """Windows that are run at once, which sums round by; fewer after memory ran out."""
        return self._batches.windows_at_once

    def shrink_to(self, windows: int) -> None:
        """Run no more windows at once than some other evaluator of the same does."""
        while self._batches.windows_at_once > windows and self._batches.halve():
            self._shrink()

    def _halve(self, error: BaseException) -> None:
        """Make the batches half as large and release all that can be computed again."""
        if not self._batches.halve():
            raise SettingsError(
                f"memory must suffice for one window of {self._window_tokens} tokens, and it does "
                f"not: {str(error).partition(chr(10))[0]}; lower `--window_tokens`"
            ) from error
        self._shrink()
        logger.warning(
            "out of memory: going on with %d windows at once, half as many",
            self._batches.windows_at_once,
        )

    def _shrink(self) -> None:
        """Release what is held for batches that are halved."""
        self._pass.sweep_bytes //= 2
        self.states.forget()

    def _halve_gradients(self, error: BaseException) -> None:
        if not self._batches.halve_gradients():
            raise error


def _among(members: Members, keep: Keep) -> Keep:
    """Return the same of positions among some members."""

    def keep_among(places: Members, begins: bool) -> Members:  # noqa: FBT001  (see `Keep`)
        kept = keep(members[places], begins)
        return places[np.isin(members[places], kept)]

    return keep_among
