"""The remedy that a message about an unknown name ends in: the nearest name, or all of them."""

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(name: str, known_names: Iterable[str], otherwise: str | None = None) -> str:
    """Return the remedy for a name that does not exist.

    >>> suggestion("tpes", ["tpe", "nsga2"])
    'did you mean `tpe`?'
    >>> suggestion("zzz", ["tpe", "nsga2"])
    'choose from tpe, nsga2'

    Args:
        name: What was got.
        known_names: Names that exist.
        otherwise: Remedy if none of them is near; by default the list of all names.
    """
    names = list(known_names)
    nearest_names = get_close_matches(name, names, n=1)
    if nearest_names:
        return f"did you mean `{nearest_names[0]}`?"
    return otherwise or f"choose from {', '.join(names)}"
