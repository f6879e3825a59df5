"""How long work tells whoever waits for it how far it is; notices go to `logging`."""

from typing import Protocol


class Progress(Protocol):
    """Told of stages and of progress inside them."""

    def stage(self, title: str) -> None:
        """A new stage begins."""

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Some of the stage is done."""


class NoProgress:
    """Shows nothing."""

    def stage(self, title: str) -> None:
        pass

    def advance(self, done: int, total: int, note: str = "") -> None:
        pass


NO_PROGRESS = NoProgress()
