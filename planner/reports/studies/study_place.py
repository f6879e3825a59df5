"""Where a study is written: how that is told, and a file that is written whole or not at all."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from search_spaces.atomic_files import check_parent, replacing, writing
from search_spaces.errors import SettingsError, quoted

EXAMPLES = "sqlite:///study.db, or a file such as study.log"
"""Of places for a study."""
_SECRETS = (
    re.compile(r"(://[^:@/]*:|^(?!.*://)[^:]*:).*(?=@)"),
    re.compile(r"(?i)(pass\w*=)[^&]*"),
)
"""Passwords behind what leads to them: before a host, in no proper URL either; in a query."""


def told(place: str) -> str:
    """Return a place as it may be told: without the password that may be in it.

    >>> told("postgresql+nosuch://me:secret@host/db"), told("postgresql:/me:secret@host/db")
    ('postgresql+nosuch://me:***@host/db', 'postgresql:***@host/db')
    """
    for secret in _SECRETS:
        place = secret.sub(r"\1***", place)
    return place


def no_place(place: str) -> SettingsError:
    """Return the refusal of what names neither a database nor a file."""
    return SettingsError(
        f"a study goes into a database such as {EXAMPLES}, got {quoted(told(place))}; write it so"
    )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield where to write: a file that is there, or another that is then given its name.

    Raises:
        OutputError: If it cannot be written.
    """
    check_parent(path)
    if path.exists():
        with writing(path):
            yield path
    else:
        with replacing(path) as temporary:
            yield temporary
