"""What a search and its workers say to each other; all of it is pickled."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evaluators.backends.work import Work
from search_spaces.errors import InputError, ModelError

Method = Literal["score", "sample", "slopes", "dense", "advance"]
"""Of a scoring backend, or of a stage of a pipeline."""


_REMEDIES = {
    "the planner": "install the same on all machines",
    "arithmetic": "let workers be on devices of one kind, that of the search",
}
"""Of what a worker may have otherwise, by its name."""
_FILES = "leave files as they are while a search runs, and resume it"


@dataclass(frozen=True, kw_only=True)
class Hired:
    """The first that a worker is told."""

    spec: object
    """What it scores; the program of the worker knows its type."""
    threads: int
    """Of torch."""


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A worker has its model and waits for tasks."""

    facts: Mapping[str, str]
    """What it scores, which must be what the search scores."""

    def check(self, facts: Mapping[str, str], where: str = "") -> None:
        """Refuse a worker that scores something else than the search does.

        Args:
            facts: Of the search.
            where: The worker is, as a sentence goes on with it.

        Raises:
            ModelError: If it does.
        """
        for name, fact in facts.items():
            if self.facts.get(name) != fact:
                raise ModelError(
                    f"a worker{where} must score what the search does, got {name} "
                    f"{self.facts.get(name)} instead of {fact}; {_REMEDIES.get(name, _FILES)}"
                )


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A worker cannot begin or go on, and neither could another one."""

    text: str
    notes: tuple[str, ...] = ()
    is_mistake: bool = False
    """Whether the user can fix it."""

    def error(self) -> Exception:
        """Return it as an error of the search."""
        error = InputError(self.text) if self.is_mistake else RuntimeError(self.text)
        for note in self.notes:
            error.add_note(note)
        return error


@dataclass(frozen=True, kw_only=True)
class Task:
    """A part of a population to be worked on."""

    method: Method
    text: Hashable
    """Which windows, and how finely they are scored."""
    configurations: NDArray[np.int_]
    """``(candidates, components)``"""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the method, besides the configurations."""
    of_each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Further ones, of which there is one for each candidate."""
    work: Work | None = None
    """Of its candidates, which are in the order of the tree; None: they are not shared out."""
    number: int = -1
    """Later tasks have higher ones."""
    windows_at_once: int | None = None
    """Most that memory sufficed for so far; None: it did for all."""

    def part(self, members: Sequence[int]) -> "Task":
        """Return the task of some of its candidates."""
        of_each = {name: [each[m] for m in members] for name, each in self.of_each.items()}
        return replace(
            self,
            configurations=self.configurations[list(members)],
            of_each=of_each,
            work=None if self.work is None else self.work.of(members),
        )


@dataclass(frozen=True, kw_only=True)
class Landed:
    """A candidate of a task is done."""

    number: int
    """Of the task."""
    member: int
    """Position of the candidate in it."""
    result: Any


@dataclass(frozen=True, kw_only=True)
class Done:
    """All candidates of a task have landed."""

    number: int
    text: Hashable
    windows_at_once: int


@dataclass(frozen=True, kw_only=True)
class Expect:
    """Children of these candidates are likely to come."""

    text: Hashable
    parents: NDArray[np.int_]
    """``(parents, components)``"""


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """Somebody has nothing to do, and can have candidates that were not begun."""

    number: int
    """Of the task."""


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """A worker leaves candidates of a task to others."""

    number: int
    """Of the task."""
    members: Sequence[int]
    """Positions of candidates in it; none if it is done sooner so."""


@dataclass(frozen=True, kw_only=True)
class Cancel:
    """Nobody waits for tasks up to this one any more."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Warned:
    """A worker has something to say."""

    logger: str
    text: str


class Alive:
    """A worker still runs."""
