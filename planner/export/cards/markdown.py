"""Text of others in our cards: no name adds a line, a heading, a column or a field."""

import re
import unicodedata
from collections.abc import Mapping

import yaml

_MOST_SIGNS = 120
_MARKS = re.compile(r"[\\`*\[\]<>|$~#&]|(?<!\w)_|_(?!\w)")


def plain(text: str) -> str:
    r"""Return a text of others as one line of what can be seen, of 120 signs at most.

    >>> plain("a\n# b\x1b[0m")
    'a # b [0m'
    """
    seen = "".join(" " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text)
    line = " ".join(seen.split())
    return line if len(line) <= _MOST_SIGNS else f"{line[: _MOST_SIGNS - 1]}…"


def escaped(text: str) -> str:
    r"""Return a text of others as it stands between words of a card.

    >>> escaped("tiny_model|*1*")
    'tiny_model\\|\\*1\\*'
    """
    return _MARKS.sub(r"\\\g<0>", plain(text))


def code(text: str) -> str:
    """Return a text of others as code inside a line, outside of tables.

    >>> code("a`b")
    '``a`b``'
    """
    line = plain(text) or " "
    fence = "`" * (max(map(len, re.findall("`+", line)), default=0) + 1)
    space = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"


def front_matter(fields: Mapping[str, object]) -> str:
    """Return the head of a card, without fields that hold nothing."""
    said = {name: value for name, value in fields.items() if value}
    # escaped, for YAML takes some signs beyond ASCII as ends of lines
    text = yaml.safe_dump(said, sort_keys=False, width=10_000)
    return f"---\n{text}---\n"
