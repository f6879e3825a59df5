"""The one reader of YAML that a user or a run folder holds: mappings and lists of text.

A value stays the text that was written, as `off`, `1e5` and `2024-01-01` are; whoever declares
its type reads it by that. Only a plain `null`, `~` or nothing at all is no value.
"""

from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG
from typing import NoReturn, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from search_spaces.errors import SettingsError

Value: TypeAlias = "str | list[Value] | dict[str, Value] | None"

MOST_BYTES = 100_000
"""Of a file: settings take some 2 kB."""
MOST_DEPTH = 8
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})


def read_yaml(path: Path, role: str = "") -> dict[str, Value]:
    """Return the mapping in a YAML file.

    Args:
        path: The file.
        role: What messages call it besides its path, such as an option.

    Raises:
        SettingsError: If it cannot be read, or holds anything but a mapping of moderate size.
    """
    shown = f"`{role} {path}`" if role else f"`{path}`"
    content = b""
    try:
        is_file = S_ISREG(path.stat().st_mode)
        if is_file:  # a pipe might never end
            with path.open("rb") as file:
                content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no name of a file"
        message = f"{shown} must be a file of YAML that can be read, got: {reason}"
        raise SettingsError(f"{message}; name a file that can be") from error
    if not is_file:
        raise SettingsError(f"{shown} must be a file of YAML, got none; name a file")
    if len(content) > MOST_BYTES:
        message = f"{shown} must be YAML of at most {MOST_BYTES // 1000} kB, got a longer file"
        raise SettingsError(f"{message}; give a shorter one")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = f"{shown} must be text in UTF-8, got other bytes in line {line}"
        raise SettingsError(f"{message}; save it as UTF-8") from error
    return parse_yaml(text, shown)


def parse_yaml(text: str, name: str) -> dict[str, Value]:
    """Return the mapping in a YAML document.

    Args:
        text: The document.
        name: What it is called in messages, such as a path.

    Raises:
        SettingsError: If it is no YAML, or holds anything but a mapping of moderate size.
    """
    values = _Document(name, _events(text, name)).value()
    if not isinstance(values, dict):
        kind = "a list" if isinstance(values, list) else "no key"
        message = f"{name} must hold `name: value` in each line, got {kind}"
        raise SettingsError(f"{message}; write for example `seed: 1`")
    return values


def _events(text: str, name: str) -> Iterator[Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: no such letter
        mark = getattr(error, "problem_mark", None)
        place = f"in line {mark.line + 1}" if mark is not None else "for a sign that it forbids"
        raise SettingsError(f"{name} must be YAML, got none {place}; correct it there") from error


class _Document:
    """Values of one document, made from the events of its parser."""

    def __init__(self, name: str, events: Iterator[Event]) -> None:
        self._name, self._events = name, events

    def value(self) -> Value:
        """Return the only document's value."""
        for event in self._events:
            if isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent):
                value = self._value(event, 0)
                if any(map(_begins, self._events)):
                    self._refuse("be one document", event, "a second one", "keep one of them")
                return value
        return None

    def _value(self, event: Event, depth: int) -> Value:
        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            self._refuse("hold each value itself", event, "an alias or anchor", "write it out")
        if getattr(event, "tag", None) is not None:
            self._refuse("be YAML without tags", event, "a tag", "leave out the `!`")
        if depth > MOST_DEPTH:
            rule = f"be at most {MOST_DEPTH} lists deep"
            self._refuse(rule, event, "a deeper one", "flatten it")
        if isinstance(event, ScalarEvent):
            is_plain = event.style is None and event.value in _NOTHING
            return None if is_plain else str(event.value)
        if isinstance(event, SequenceStartEvent):
            return [self._value(e, depth + 1) for e in self._until(SequenceEndEvent)]
        return self._mapping(depth)

    def _mapping(self, depth: int) -> dict[str, Value]:
        values: dict[str, Value] = {}
        for event in self._until(MappingEndEvent):
            if not isinstance(event, ScalarEvent):
                self._refuse("have text for keys", event, "another key", "name a setting")
            self._value(event, depth)
            key = str(event.value)
            if key in values:
                self._refuse("have each key once", event, f"{key[:40]!r} twice", "keep one")
            values[key] = self._value(next(self._events), depth + 1)
        return values

    def _until(self, end: type[Event]) -> Iterator[Event]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _refuse(self, rule: str, event: Event, got: str, remedy: str) -> NoReturn:
        place = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
        raise SettingsError(f"{self._name} must {rule}, got {got}{place}; {remedy}")


def _begins(event: Event) -> bool:
    return isinstance(event, ScalarEvent | SequenceStartEvent | MappingStartEvent | AliasEvent)
