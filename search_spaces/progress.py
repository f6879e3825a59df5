"""Progress of long work, reported to whoever waits for it; notices go to `logging`."""

from typing import Protocol


class Progress(Protocol):
    """Receives stages, the progress inside them, and what is being done there."""

    def stage(self, title: str) -> None:
        """Begin a new stage."""

    def advance(self, done: int, total: int) -> None:
        """Report that part of the stage is done."""

    def note(self, text: str) -> None:
        """Say in words what is being done inside the stage, or has come of it so far."""


class NoProgress:
    """Discards all progress."""

    def stage(self, title: str) -> None:
        pass

    def advance(self, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        pass


NO_PROGRESS = NoProgress()
