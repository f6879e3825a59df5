"""How long work tells whoever waits for it how far it is."""

from typing import Protocol


class Listener(Protocol):
    """Told of stages and of progress inside them."""

    def stage(self, title: str) -> None:
        """A new stage begins."""

    def advance(self, done: int, total: int, note: str = "") -> None:
        """Some of the stage is done."""

    def say(self, line: str) -> None:
        """Something worth a line of its own."""


class Silence:
    """Listens and says nothing."""

    def stage(self, title: str) -> None:
        pass

    def advance(self, done: int, total: int, note: str = "") -> None:
        pass

    def say(self, line: str) -> None:
        pass
