"""Text that the tiny models' tokenizer reads."""

import random
from pathlib import Path

from tests.models.factory import VOCABULARY


def random_text(path: Path, words: int = 4000) -> Path:
    """Write words at random."""
    rng = random.Random(0)
    path.write_text(" ".join(f"w{rng.randrange(3, VOCABULARY)}" for _ in range(words)))
    return path
