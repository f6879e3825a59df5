"""Parts of messages: values that were got, and the remedy for an unknown name."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_LETTERS = 60
"""Of a value in a message."""


def shown(value: object) -> str:
    """Return a value as messages show it: as Python writes it, its middle left out if long.

    >>> shown("off"), shown(10**99)
    ("'off'", 'a longer number')
    """
    # an integer of many digits is refused by Python, and read by nobody
    is_long = isinstance(value, int) and abs(value) >= 10**30
    text, half = "a longer number" if is_long else repr(value), MOST_LETTERS // 2
    return text if len(text) <= MOST_LETTERS else f"{text[:half]}…{text[-half:]}"


def suggestion(name: str, known_names: Iterable[str], otherwise: str | None = None) -> str:
    """Return the remedy for a name that does not exist: the nearest one, whatever its case.

    >>> suggestion("TPEs", ["tpe", "nsga2"])
    'did you mean `tpe`?'
    >>> suggestion("zzz", ["tpe", "nsga2"])
    'choose from tpe, nsga2'

    Args:
        name: What was got.
        known_names: Names that exist.
        otherwise: Remedy if none of them is near; by default the list of all names.
    """
    names = list(known_names)
    # dashes are alike in all options, and say nothing of which is meant
    bare = {each.lower().lstrip("-"): each for each in names}
    if nearest := get_close_matches(name.lower().lstrip("-"), bare, n=1):
        return f"did you mean `{bare[nearest[0]]}`?"
    return otherwise or f"choose from {', '.join(names)}"
