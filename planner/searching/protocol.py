"""What a search loop scores genomes with."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from planner.runs.records import Evaluation, RoundReply


class GenomeScorer(Protocol):
    """Scores genomes one rung of windows at a time."""

    @property
    def rungs(self) -> tuple[int, ...]:
        """Windows scored after each rung, ascending."""
        ...

    @property
    def window_tokens(self) -> int:
        """Tokens in a window."""
        ...

    def score(
        self, genomes: NDArray[np.int_], rung: int | None = None
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)``; yield each with its position as it lands.

        Args:
            genomes: What to score.
            rung: Score on the windows of this rung only; None: on all.
        """
        ...

    def sample(
        self, genomes: NDArray[np.int_], windows: Sequence[int]
    ) -> Iterator[tuple[int, Evaluation]]:
        """Score genomes ``(genomes, sites)`` on some windows only; yield as `score` does."""
        ...

    def gradients(self, genomes: NDArray[np.int_]) -> Iterator[tuple[int, RoundReply]]:
        """Estimate the change of KL by a step from each genome to each level of each site.

        Args:
            genomes: ``(genomes, sites)``

        Yields:
            Position of the genome, and the changes level by level, site by site.
        """
        ...

    def expect(self, parents: NDArray[np.int_]) -> None:
        """Prepare for children of genomes ``(parents, sites)``."""
        ...
