"""Progress that is remembered."""


class RecordedProgress:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.stages: list[str] = []
        self.steps: list[tuple[str, int, int]] = []
        """Stage, steps done, of how many."""
        self.notes: list[str] = []

    def stage(self, title: str) -> None:
        self.stages.append(title)

    def advance(self, done: int, total: int) -> None:
        self.steps.append((self.stages[-1] if self.stages else "", done, total))

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def counts(self) -> list[tuple[int, int]]:
        """Steps done and of how many, whatever the stage."""
        return [(done, total) for _, done, total in self.steps]
