"""One side of a comparison of two checkouts: does a benchmark's work each time it is told to.

Run by path, with the packages of a checkout on the path: its own benchmark makes the work, and all
that is replaced is who asks for it, and how much text there is.
"""

import json
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from benchmarks import duel
from benchmarks.smollm2 import Text

if TYPE_CHECKING:
    from benchmarks.report import Row


class Asker:
    """Answers each line of the standard input with figures, as a pipe or as a duel."""

    def __init__(self) -> None:
        self._out = sys.stdout
        sys.stdout = sys.stderr  # what a benchmark prints is no answer

    def wait(self) -> None:
        """Wait until the work is asked for, or end."""
        if not sys.stdin.readline():
            sys.exit()

    def answer(self, **figures: float) -> None:
        print(json.dumps(figures), file=self._out, flush=True)

    def fight(self, both: duel.Duel, decide: duel.Decide) -> NoReturn:
        """Time one decision each time."""
        while True:
            self.wait()
            started = time.perf_counter()
            decide(both.children)
            self.answer(seconds=time.perf_counter() - started)

    def send(self, measured: tuple[dict[str, float], int]) -> None:
        """Answer with what a generation took."""
        took, model_bytes = measured
        peak = (took["peak"] - model_bytes) / 1e6
        self.answer(**{"faults": took["faults"], "MB beyond the model": peak})


def main(name: str, text: Text) -> None:
    """Do the work of one benchmark until nobody asks any more."""
    asker = Asker()

    def fight(both: duel.Duel, decide: duel.Decide, repeats: int) -> "tuple[Row, Row]":
        asker.fight(both, decide)

    duel.text = lambda *, quick: text
    duel.Duel.fight = fight  # type: ignore[assignment, method-assign]
    if name == "forward":
        from benchmarks import forward

        forward.equal_tokens(text, 1)
    elif name == "racing":
        from benchmarks import racing

        racing.main()
    else:
        from benchmarks import memory

        asker.wait()
        memory.score_generation(asker, text)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1], Text(windows=int(sys.argv[2]), tokens=int(sys.argv[3])))
