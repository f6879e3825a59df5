"""Progress of long work, reported to whoever waits for it; notices go to `logging`."""

from typing import Protocol


class Progress(Protocol):
    """Receives stages and the progress inside them."""

    def stage(self, title: str) -> None:
        """Begin a new stage."""

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Report that part of the stage is done."""


class NoProgress:
    """Discards all progress."""

    def stage(self, title: str) -> None:
        pass

    def advance(self, done: int, total: int, note: str = "") -> None:
        pass


NO_PROGRESS = NoProgress()
