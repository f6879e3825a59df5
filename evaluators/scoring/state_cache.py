"""Which hidden states stay between generations, so that a child starts where it leaves a parent.

Their bytes are bounded. Which ones stay is decided by expected saving: the work of the steps up to
a state, times the share of coming candidates that will pass through it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from evaluators.scoring.prefix_tree import Branch, Members, OnState
from evaluators.scoring.steps import Step
from search_spaces.space.configuration import Configurations

Floats = NDArray[np.float64]
STATE_BYTES = 32 * 2**20
"""Default bound on the states that are kept."""


@dataclass(frozen=True)
class _Choice:
    """A prefix whose state is worth keeping."""

    prefix: bytes
    saving: float
    """Work that it is expected to save a candidate, beyond what the choices before it save."""


class StateCache:
    """Hidden states of likely parents, by batch of text and by the configurations up to them.

    Components are everywhere in the order in which they run.

    Args:
        steps: Of the tree.
        work: For each component its multiply–accumulates a token in each configuration,
            ``(configurations,)``.
        limit_bytes: Most that the states may take.

    Example:
        Three steps of equal work, the last of them dropped in the parent, and room for one state.
        A child leaves its parent after 0, 1, 2 or 3 steps, each as likely: the state after the
        first step saves 1 of work for three of them, the one after the second saves 2 for two.

        >>> steps = [Step(0, 0, 1), Step(0, 1, 2), Step(1, 2, 3)]
        >>> cache = StateCache(steps, [np.array([0.0, 1.0])] * 3, limit_bytes=4)
        >>> parent, hidden = np.array([1, 1, 0]), Tensor([0.0])
        >>> cache.expect(parent[None], {0: (hidden.nbytes, 1.0)})
        >>> for step in steps:
        ...     cache.keeper(0)(parent[: step.stop], hidden)
        >>> rest, [branch] = cache.starts(0, np.array([[1, 1, 1], [0, 0, 0]]))
        >>> branch.depth, branch.members.tolist(), rest.tolist()
        (2, [0], [1])
    """

    def __init__(
        self, steps: Sequence[Step], work: Sequence[Floats], limit_bytes: int = STATE_BYTES
    ) -> None:
        self._stops = np.array([step.stop for step in steps])
        self._work = work
        self._limit_bytes = limit_bytes
        self._chosen: set[tuple[int, bytes]] = set()
        self._states: dict[tuple[int, bytes], Tensor] = {}
        # one candidate expected to leave at each step, until some were observed
        self._departures = np.ones(len(steps) + 1)
        self._parents: Configurations = np.empty((0, len(work)), dtype=np.int_)

    @property
    def bytes_held(self) -> int:
        """Bytes of the states that are held now."""
        return sum(state.nbytes for state in self._states.values())

    def forget(self) -> None:
        """Release all states; they come back as candidates pass."""
        self._states.clear()

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
        self._chosen = set()
        slots = max((room // size for size, _ in batch_bytes.values()), default=0)
        offers = [
            (choice.saving * share, batch, choice.prefix, size)
            for choice in self._choices(parents, slots)
            for batch, (size, share) in batch_bytes.items()
        ]
        for _, batch, prefix, size in sorted(offers, key=lambda offer: -offer[0]):
            if size <= room:
                room -= size
                self._chosen.add((batch, prefix))
        self._states = {key: state for key, state in self._states.items() if key in self._chosen}

    def starts(self, batch: int, configurations: Configurations) -> tuple[Members, list[Branch]]:
        """Return the deepest branches whose state is held.

        Args:
            batch: Key of the batch of text.
            configurations: ``(candidates, components)``

        Returns:
            The candidates that start at a root, and the branches of all others.
        """
        members: dict[bytes, list[int]] = {}
        for member, candidate in enumerate(configurations):
            members.setdefault(self._deepest(batch, candidate), []).append(member)
        rest = np.array(members.pop(b"", []), dtype=np.int_)
        depths = {int(stop): depth + 1 for depth, stop in enumerate(self._stops)}
        return rest, [
            Branch(
                np.array(below),
                depths[len(prefix) // configurations.itemsize],
                self._states[batch, prefix],
            )
            for prefix, below in members.items()
        ]

    def keeper(self, batch: int) -> OnState:
        """Return the callback that keeps the chosen states of a walk over a batch."""

        def keep(prefix: Configurations, hidden: Tensor) -> None:
            key = (batch, prefix.tobytes())
            if key in self._chosen:
                self._states[key] = hidden

        return keep

    def observe(self, configurations: Configurations) -> None:
        """Count after how many steps candidates left the parents that were expected."""
        if len(self._parents):
            shared = np.array([self._shared_steps(candidate) for candidate in configurations])
            self._departures += np.bincount(shared, minlength=len(self._departures))

    def _work_by_component(self, configurations: Configurations) -> Floats:
        """Return the work of each component, ``(candidates, components)``."""
        return np.column_stack(
            [table[column] for table, column in zip(self._work, configurations.T, strict=True)]
        )

    def _deepest(self, batch: int, candidate: Configurations) -> bytes:
        for stop in self._stops[::-1]:
            prefix = candidate[:stop].tobytes()
            if (batch, prefix) in self._states:
                return prefix
        return b""

    def _shared_steps(self, candidate: Configurations) -> int:
        equal = np.cumprod(self._parents == candidate, axis=1).astype(bool)
        return int(equal[:, self._stops - 1].sum(axis=1).max())

    def _choices(self, parents: Configurations, slots: int) -> list[_Choice]:
        """Choose prefixes one by one, each for what it saves beyond those before it.

        A child starts from the deepest state on its path, so a set of states saves it the maximum
        over those that it passes: a monotone submodular function of the set, for which greedy is
        within 1 − 1/e of the best choice (Nemhauser, Wolsey & Fisher, 1978).
        """
        # work up to the state after each step, (parents, steps)
        done = np.cumsum(self._work_by_component(parents), axis=1)[:, self._stops - 1]
        leaving = self._departures / self._departures.sum() / max(1, len(parents))
        steps = len(self._stops)
        saved = np.zeros((len(parents), steps + 1))  # by the step at which a child leaves
        nodes = [[parent[:stop].tobytes() for stop in self._stops] for parent in parents]
        names = sorted({name for row in nodes for name in row})
        index = {name: position for position, name in enumerate(names)}
        # parents that agree up to a step share its state: one id for all of them
        ids = np.array([[index[name] for name in row] for row in nodes], dtype=np.int_)
        # (steps, steps + 1): whether a child that leaves then has passed the state after a step
        passes = np.tri(steps + 1, steps, -1, dtype=bool).T
        chosen: list[_Choice] = []
        while len(chosen) < min(slots, len(names)):
            more = np.maximum(done[:, :, None] - saved[:, None, :], 0.0) * passes
            # expected over leaving steps, summed over the parents that share the state
            savings = np.bincount(ids.ravel(), (more @ leaving).ravel(), minlength=len(names))
            best = int(savings.argmax())
            if savings[best] <= 0:
                break
            chosen.append(_Choice(names[best], float(savings[best])))
            parent, step = np.nonzero(ids == best)
            reach = np.where(passes[step], done[parent, step][:, None], 0.0)
            saved[parent] = np.maximum(saved[parent], reach)
        return chosen
