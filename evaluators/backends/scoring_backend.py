"""What scores candidates, wherever that is: in this process or in others."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from evaluators.scoring.by_gradient.output_fisher import Asked
from evaluators.scoring.by_gradient.slopes import Slopes
from evaluators.scoring.score import Score
from search_spaces.space.configuration import Configurations


class ScoringBackend(Protocol):
    """Scores candidates of one model on one set of windows, a rung of windows at a time.

    With as many threads of torch a score depends on the candidate and on the windows, bit for bit:
    on no company, no order, and not on where it is computed on one machine.
    """

    @property
    def rungs(self) -> tuple[int, ...]:
        """Windows scored after each rung, ascending."""
        ...

    def score(
        self, configurations: Configurations, rung: int | None = None
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates; each is yielded as soon as its score is complete, in any order.

        Args:
            configurations: ``(candidates, components)``
            rung: Score the windows of this rung only; None: all windows.

        Yields:
            Position of the candidate, and its score on these windows, once each.

        Raises:
            SettingsError: If memory does not suffice for a single window.
        """
        ...

    def sample(
        self, configurations: Configurations, windows: Sequence[int]
    ) -> Iterator[tuple[int, Score]]:
        """Score candidates on some windows only, in the order given; yields as `score` does."""
        ...

    def slopes(
        self, configurations: Configurations, asked: Sequence[Asked], *, gates: bool
    ) -> Iterator[tuple[int, Slopes]]:
        """Estimate what small steps from candidates change, on the windows of the first rung.

        Args:
            configurations: ``(candidates, components)``
            asked: Of each candidate, the options of single components to ask about.
            gates: Whether to differentiate by a gate on every unit.

        Yields:
            Position of the candidate, and its slopes, once each.
        """
        ...

    def expect(self, parents: Configurations) -> None:
        """Prepare for children of these candidates ``(parents, components)``."""
        ...
