"""A population's way through a prefix tree, over batches of text, to scores."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, islice
from operator import itemgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evaluators.scoring.batches import Batch
from evaluators.scoring.ends import Ends
from evaluators.scoring.prefix_tree import Keep, Members, PrefixTree, keep_all
from evaluators.scoring.readout import Readout
from evaluators.scoring.score import Score
from evaluators.scoring.state_cache import StateCache
from search_spaces.space.configuration import Configurations

HEADS_AT_ONCE = 8
"""Candidates for which one chunk of the teacher's logits is computed."""

Arrivals = Iterator[tuple[int, Tensor]]
"""Candidates of a population, each with its final hidden states on one batch."""


@dataclass
class _PartialScore:
    """What was measured of a candidate so far."""

    parts: list[dict[str, NDArray[np.float64]]] = field(default_factory=list)
    seconds: float = 0.0

    def completed(self, tokens: int) -> Score:
        """Return the score on all batches, which came in the order of their windows."""
        by_window = {
            name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]
        }
        return Score.of(by_window, tokens, self.seconds)


class PopulationPass:
    """Runs candidates over batches of text and measures what comes out.

    Args:
        tree: Of the model.
        states: Hidden states to start from.
        sweep_bytes: Bound on the hidden states held at once if layers are streamed.
    """

    def __init__(self, tree: PrefixTree, states: StateCache, sweep_bytes: int) -> None:
        self._tree = tree
        self._states = states
        self._streamed = tree.structure.backbone.streamed
        self.sweep_bytes = sweep_bytes

    @torch.inference_mode()
    def scores(
        self,
        configurations: Configurations,
        batches: Sequence[Batch],
        keys: Sequence[int] = (),
        keep: Keep = keep_all,
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on batches; yield each with its position once all are behind it.

        Args:
            configurations: ``(candidates, components)``
            batches: Of text.
            keys: Of these in the states that are kept; empty: none of them has any.
            keep: Says which candidates are not given up.
        """
        partial_scores = [_PartialScore() for _ in configurations]
        tokens = sum(batch.token_count for batch in batches)
        started = time.monotonic()
        everyone = np.arange(len(configurations))
        # all begin at once, so that none is given up afterwards
        swept = keep(everyone, True) if self._streamed else None  # noqa: FBT003
        walks = (
            self._walks(configurations, batches, keys, keep)
            if swept is None
            else self._sweeps(configurations, swept, batches)
        )
        for index, arriving in walks:
            readout = batches[index].readout
            while group := [
                (member, readout.pick(final)) for member, final in islice(arriving, HEADS_AT_ONCE)
            ]:
                found = measured(self._tree.ends, configurations, group, readout)
                landed = time.monotonic()
                # a sweep is done for all of its candidates before the first of them lands
                sharers = list(found) if swept is None else swept.tolist()
                for member in sharers:
                    partial_scores[member].seconds += (landed - started) / len(sharers)
                for member, values in found.items():
                    partial_scores[member].parts.append(values)
                    if len(partial_scores[member].parts) == len(batches):
                        yield member, partial_scores[member].completed(tokens)
                started = time.monotonic()  # the caller's time since then is not counted

    def as_run(self, configurations: Configurations) -> Configurations:
        """Return configurations with components as they run, as states are kept by."""
        # in C order, for prefixes of rows are known by their bytes
        return np.ascontiguousarray(configurations[:, self._tree.running_order])

    def _walks(
        self,
        configurations: Configurations,
        batches: Sequence[Batch],
        keys: Sequence[int],
        keep: Keep,
    ) -> Iterator[tuple[int, Arrivals]]:
        """Yield each batch's number and who arrives on it; a batch may come several times."""
        for index, batch in enumerate(batches):
            starts = on_state = None
            if keys:
                rest, held = self._states.starts(keys[index], self.as_run(configurations))
                starts = [*self._tree.roots(configurations, batch.inputs, rest), *held]
                on_state = self._states.keeper(keys[index])
            yield index, self._tree.walk(configurations, batch.inputs, starts, on_state, keep)

    def _sweeps(
        self, configurations: Configurations, members: Members, batches: Sequence[Batch]
    ) -> Iterator[tuple[int, Arrivals]]:
        """Walk layer by layer, as many candidates at a time as their hidden states allow."""
        inputs = [batch.inputs for batch in batches]
        at_once = max(1, self.sweep_bytes // sum(each.hidden.nbytes for each in inputs))
        for first in range(0, len(members), at_once):
            part = members[first : first + at_once]
            walk = self._tree.walk_by_layer(configurations[part], inputs)
            for index, arriving in groupby(walk, key=itemgetter(0)):
                yield index, map(partial(_placed, part), arriving)


def measured(
    ends: Ends,
    configurations: Configurations,
    group: Sequence[tuple[int, Tensor]],
    readout: Readout,
) -> dict[int, dict[str, NDArray[np.float64]]]:
    """Measure a few candidates, which share the teacher's logits of a batch.

    Args:
        ends: Of the model.
        configurations: ``(candidates, components)``
        group: Positions of some candidates, each with its hidden states as `Readout.pick` returns
            them.
        readout: Of the batch.

    Returns:
        For each position, by metric, the mean over each window, ``(windows,)``.
    """
    members = np.array([member for member, _ in group])
    heads = ends.choices(ends.head, configurations[members])
    found: dict[int, dict[str, NDArray[np.float64]]] = {}
    for head in np.unique(heads):  # one is in memory while all that are read with it are
        chosen = np.flatnonzero(heads == head).tolist()
        finals = [group[place][1] for place in chosen]
        values = readout.compare(finals, ends.reading(int(head)))
        found |= dict(zip(members[chosen].tolist(), values, strict=True))
    return found


def _placed(members: Members, arrival: tuple[int, int, Tensor]) -> tuple[int, Tensor]:
    _, place, final = arrival
    return int(members[place]), final
