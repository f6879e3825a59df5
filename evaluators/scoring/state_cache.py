"""Which hidden states stay between generations, so that a child starts where it leaves a parent.

What may stay is bounded in bytes. What does stay is chosen by expected saving: the work of the
steps up to a state, times the share of coming candidates that will pass through it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evaluators.scoring.prefix_tree import Branch, OnState, Step
from search_spaces.space.configuration import Configurations

Floats = NDArray[np.float64]
STATE_BYTES = 32 * 2**20
"""Default bound on the states that are kept."""


@dataclass(frozen=True)
class _Choice:
    """A prefix worth keeping."""

    prefix: bytes
    gain: float
    """Work that it is expected to save a candidate, beyond what the choices before it save."""


class States:
    """Hidden states of likely parents, by batch of text and by the forms that lead to them.

    Args:
        steps: Of the tree.
        work: Multiply–accumulates a token of each component, by units kept, ``(units + 1,)`` each.
        limit_bytes: Most that the states may take.
    """

    def __init__(
        self, steps: Sequence[Step], work: Sequence[Floats], limit_bytes: int = STATE_BYTES
    ) -> None:
        self._stops = np.array([step.stop for step in steps])
        self._work = work
        self._limit_bytes = limit_bytes
        self._wanted: set[tuple[int, bytes]] = set()
        self._kept: dict[tuple[int, bytes], Tensor] = {}
        # one candidate expected to leave at each step, until some were seen to
        self._departures = np.ones(len(steps) + 1)
        self._parents: Configurations = np.empty((0, len(work)), dtype=np.int_)

    @property
    def bytes_held(self) -> int:
        """Bytes of the states that are kept now."""
        return sum(state.nbytes for state in self._kept.values())

    def forget(self) -> None:
        """Let go of all states; they come back as candidates pass."""
        self._kept.clear()

    def expect(
        self, parents: Configurations, batch_bytes: Mapping[int, tuple[int, float]]
    ) -> None:
        """Choose the states to keep for the children of some candidates.

        Args:
            parents: Candidates likely to have children, ``(parents, components)``.
            batch_bytes: For each batch, the bytes of one state, and the share of candidates
                that are scored on it.
        """
        self._parents = parents
        room = self._limit_bytes
        self._wanted = set()
        slots = max((room // size for size, _ in batch_bytes.values()), default=0)
        offers = [
            (choice.gain * share, batch, choice.prefix, size)
            for choice in self._choices(parents, slots)
            for batch, (size, share) in batch_bytes.items()
        ]
        for _, batch, prefix, size in sorted(offers, key=lambda offer: -offer[0]):
            if size <= room:
                room -= size
                self._wanted.add((batch, prefix))
        self._kept = {key: state for key, state in self._kept.items() if key in self._wanted}

    def starts(self, batch: int, configurations: Configurations, hidden: Tensor) -> list[Branch]:
        """Give the deepest known branch of each candidate.

        Args:
            batch: Of the text.
            configurations: Forms, ``(candidates, components)``.
            hidden: What enters the first layer.
        """
        members: dict[bytes, list[int]] = {}
        for member, kept in enumerate(configurations):
            members.setdefault(self._deepest(batch, kept), []).append(member)
        depths = {int(stop): depth + 1 for depth, stop in enumerate(self._stops)}
        return [
            Branch(
                np.array(below),
                depths[len(prefix) // configurations.itemsize] if prefix else 0,
                self._kept[batch, prefix] if prefix else hidden,
            )
            for prefix, below in members.items()
        ]

    def keeper(self, batch: int) -> OnState:
        """Give the callback that keeps what is wanted of a walk over a batch."""

        def keep(prefix: Configurations, hidden: Tensor) -> None:
            key = (batch, prefix.tobytes())
            if key in self._wanted:
                self._kept[key] = hidden

        return keep

    def observe(self, configurations: Configurations) -> None:
        """Learn from candidates where they leave the parents that were expected."""
        if len(self._parents):
            shared = np.array([self._shared_steps(kept) for kept in configurations])
            self._departures += np.bincount(shared, minlength=len(self._departures))

    def _spent(self, configurations: Configurations) -> Floats:
        """Give the work of each component, ``(candidates, components)``."""
        return np.column_stack(
            [table[k] for table, k in zip(self._work, configurations.T, strict=True)]
        )

    def _deepest(self, batch: int, kept: Configurations) -> bytes:
        for stop in self._stops[::-1]:
            prefix = kept[:stop].tobytes()
            if (batch, prefix) in self._kept:
                return prefix
        return b""

    def _shared_steps(self, kept: Configurations) -> int:
        equal = np.cumprod(self._parents == kept, axis=1).astype(bool)
        return int(equal[:, self._stops - 1].sum(axis=1).max())

    def _choices(self, parents: Configurations, slots: int) -> list[_Choice]:
        """Choose prefixes one by one, each for what it saves beyond those before it.

        Greedy is within 1 − 1/e of the best choice (Nemhauser, Wolsey & Fisher, 1978).
        """
        done = np.cumsum(self._spent(parents), axis=1)[:, self._stops - 1]  # (parents, steps)
        leaving = self._departures / self._departures.sum() / max(1, len(parents))
        steps = len(self._stops)
        saved = np.zeros((len(parents), steps + 1))  # by the step at which a child leaves
        nodes = [[parent[:stop].tobytes() for stop in self._stops] for parent in parents]
        names = sorted({name for row in nodes for name in row})
        index = {name: position for position, name in enumerate(names)}
        ids = np.array([[index[name] for name in row] for row in nodes], dtype=np.int_)
        # (steps, steps + 1): whether a child that leaves then has passed the state after a step
        passes = np.tri(steps + 1, steps, -1, dtype=bool).T
        chosen: list[_Choice] = []
        while len(chosen) < min(slots, len(names)):
            more = np.maximum(done[:, :, None] - saved[:, None, :], 0.0) * passes
            gains = np.bincount(ids.ravel(), (more @ leaving).ravel(), minlength=len(names))
            best = int(gains.argmax())
            if gains[best] <= 0:
                break
            chosen.append(_Choice(names[best], float(gains[best])))
            parent, step = np.nonzero(ids == best)
            reach = np.where(passes[step], done[parent, step][:, None], 0.0)
            saved[parent] = np.maximum(saved[parent], reach)
        return chosen
