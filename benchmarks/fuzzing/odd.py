"""Odd values, and damage to text, JSON and bytes that are otherwise sound."""

import io
import json
import pickle
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

Thing = TypeVar("Thing")

RAN = "ran"
"""The file beside a command's folder that planted code makes."""
_NUMBERS = """
0 -1 1 2 3 5 7 16 -0 0.5 .5 1. 1e5 1e300 1e400 -1e9 inf -inf nan NaN 1e-320 4.0 +3 1_000 0x10 0b11
0o17 010 1,5 1.5.2 \uff11\uff12 ٣ ½ ² 1e ++1 --1 1- 2147483648 4294967296 9223372036854775807
9223372036854775808 18446744073709551616 99999999999999999999999999999 1:30 12k 1/2
"""
_WORDS = """
null ~ none None true false on off yes no [] {} [1,2 {a:b} [1,2] !!x &a *a #x - -- -x | > % @x ` '
" \\ $HOME %s %(prog)s {0} {option} .. . / ../x x/y x:y : , ; = a=b é 日本 🦙 nul << work text.txt
/dev/null /proc/self/mem /sys ~nobody/x file:///etc/passwd http://localhost:1/x hf://x s3://x/y
owner/name 2026-01-01
"""
_TEXTS = (
    "",
    " ",
    "\n",
    "a\nb",
    "\t",
    "\r",
    "\x1b[31mred",
    "\u200b",
    "\u202ea",
    "\udcff",
    "a: b",
    "- a",
)
_LONG = ("a" * 300, "a" * 5000, "x" * 100 + "/" + "y" * 100, "!!python/name:os.system")
NUMBERS = [*_NUMBERS.split(), " 4 ", "4 4", "9" * 5000]
TEXTS = [*_WORDS.split(), *_TEXTS, *_LONG]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 7, 2**31, 2**63, 2**64, 10**30, 0.5, -0.0, 1e-320, 1e300),
    *(
        float("nan"),
        float("inf"),
        float("-inf"),
        "",
        "x",
        "1",
        "0.5",
        "null",
        "é🦙",
        "a\nb",
        "\ud800",
    ),
    *(
        "a" * 2000,
        [],
        [[]],
        [1],
        [None],
        ["x"],
        {},
        {"a": 1},
        {"": None},
        [1, "a", None],
        "../x",
        "/",
    ),
]


def pick(names: Iterable[str], rng: random.Random) -> str:
    """Choose a name so that another choice is rarely made once further names are there."""
    salt = rng.random()
    return max(names, key=lambda name: random.Random(f"{salt} {name}").random())


def odd_text(rng: random.Random) -> str:
    """Return a word that may be a number, YAML, a path, long or unprintable."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(NUMBERS)
    if kind < 0.8:
        return rng.choice(TEXTS)
    signs = "aZ09 -_=:,;.<>[]{}()'\"`|&*!%#@~$^\\/?+é½日🦙\t\n\x07\u2028"
    return "".join(rng.choice(signs) for _ in range(rng.randint(1, 12)))


def misspelt(word: str, rng: random.Random) -> str:
    """Change a word by one or two signs."""
    signs = list(word)
    for _ in range(rng.randint(1, 2)):
        place = rng.randrange(len(signs) + 1)
        new = rng.choice("aex0159 -_=<>≤≥,.:%x'\"#")
        signs[place : place + rng.randint(0, 1)] = [new] if rng.random() < 0.7 else []
    return "".join(signs)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Flip, cut, repeat, blank or replace bytes."""
    kind = rng.randrange(9)
    if kind <= 2 and data:  # in the head, where formats say what follows, or anywhere
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 4, 64))):
            end = len(data) if kind else min(len(data), 200)
            changed[rng.randrange(end)] = rng.randrange(256)
        return bytes(changed)
    if kind == 3:
        return data[: int(len(data) * rng.random())]
    if kind == 4:
        cut, length = int(len(data) * rng.random()), rng.choice((1, 8, 100))
        return data[:cut] + (b"" if rng.random() < 0.5 else bytes(length)) + data[cut + length :]
    if kind == 5:
        return data + rng.choice((b"\n", b"\0" * 100, data[:100], data, b"x"))
    replacements = [b"", b"\0", b"not this", b"{}", b"[]", b"null", b"\xff\xfe\0", b"PK\x03\x04"]
    return rng.choice([*replacements, pickled(), pickled_arrays()])


class _Touch:
    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return (Path.touch, (Path("..", RAN),))


def pickled() -> bytes:
    """Return a pickle that leaves a mark when it is read."""
    return pickle.dumps(_Touch())


def pickled_arrays() -> bytes:
    """Return a NumPy archive that holds such a pickle."""
    buffer, objects = io.BytesIO(), np.empty(1, dtype=object)
    objects[0] = _Touch()
    np.savez(buffer, order=objects, prior=objects, search=objects)
    return buffer.getvalue()


def odd_json(text: str, rng: random.Random) -> bytes:
    """Change one or two values of a JSON document, or its text."""
    if rng.random() < 0.2:
        return _odd_json_text(text, rng)
    tree = json.loads(text)
    for _ in range(rng.choice((1, 1, 2))):
        tree = changed(tree, rng)
    return json.dumps(tree, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")


def _odd_json_text(text: str, rng: random.Random) -> bytes:
    deep = 100_000
    whole = [
        "[" * deep,
        '{"a":' * deep + "1" + "}" * deep,
        "9" * 5000,
        text.replace(": ", ": " + "9" * 5000 + " ", 1),
        text.replace("{", '{"version": 9, "version": 1, ', 1),
        text.replace("}", ",}", 1),
        text.replace('"', "'"),
        "\ufeff" + text,
        f"// x\n{text}",
        f"{text}{text}",
        text.replace("1", "NaN", 1),
        '"\\ud800"',
    ]
    if rng.random() < 0.5:
        return rng.choice(whole).encode()
    if rng.random() < 0.3:
        return text.encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")))
    return damaged(text.encode(), rng)


def changed(tree: Any, rng: random.Random) -> Any:
    """Replace, remove, rename, add or repeat something in a tree of lists and mappings."""
    if not isinstance(tree, dict | list) or not tree:
        return rng.choice(VALUES)
    key: Any = pick(tree, rng) if isinstance(tree, dict) else rng.randrange(len(tree))
    copied: Any = tree.copy()
    if isinstance(copied[key], dict | list) and rng.random() < 0.75:
        copied[key] = changed(copied[key], rng)
        return copied
    kind = rng.random()
    if kind < 0.6:
        copied[key] = rng.choice(VALUES)
    elif kind < 0.7 and isinstance(copied[key], int | float):
        copied[key] = copied[key] * rng.choice((-1, 2, 0.5, 10, 1000)) + rng.choice((0, 1))
    elif kind < 0.8:
        del copied[key]
    elif isinstance(copied, list):
        copied.insert(rng.randrange(len(copied)), rng.choice([*VALUES, copied[key]]))
    elif kind < 0.9:
        copied[misspelt(str(key), rng)] = copied.pop(key)
    else:
        copied[rng.choice(("x", "", "version", "auto_map", "dtype"))] = rng.choice(VALUES)
    return copied
