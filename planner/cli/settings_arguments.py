"""Settings as options of a command: their names, types, choices, defaults, groups and help."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from jsonargparse import Namespace
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from planner.cli.command_parser import CommandParser
from planner.settings.groups import group_of

Settings = TypeVar("Settings", bound=BaseModel)

_KINDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def add_option(
    parser: CommandParser, name: str, kind: Any, help_text: str, *, group: str, **details: Any
) -> None:
    """Add an option to a titled group.

    Args:
        parser: Of the command.
        name: With underscores.
        kind: ``float``, ``str`` or ``Path``; ``bool``: a flag; ``Any``: YAML.
        help_text: What it does, in a line or two.
        group: Title of the group.
        details: What else argparse takes, such as ``default`` and ``required``.
    """
    groups = parser.groups or {}
    options = groups.get(group) or parser.add_argument_group(group, name=group)
    if kind is bool:
        options.add_argument(f"--{name}", action="store_true", help=help_text, **details)
    else:
        details = {"type": kind, "metavar": _KINDS.get(kind)} | details
        options.add_argument(f"--{name}", help=help_text, **details)


def add_settings(
    parser: CommandParser,
    settings: type[BaseModel],
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
) -> None:
    """Add the fields of some settings as options; the settings validate the values themselves.

    Args:
        parser: Of the command.
        settings: With a field ``model``, which becomes the positional argument.
        only: Fields to offer; by default all.
        without: Fields to leave out.
    """
    for name, field in settings.model_fields.items():
        if name == "model":
            parser.add_argument(name, type=str, help=field.description)
        elif name not in without and (not only or name in only):
            _add_field(parser, name, field)


def given_settings(options: Namespace, settings: type[Settings]) -> dict[str, Any]:
    """Return the values of those options that are fields of some settings."""
    return {name: value for name, value in vars(options).items() if name in settings.model_fields}


def _add_field(parser: CommandParser, name: str, field: FieldInfo) -> None:
    help_text, group = " ".join(str(field.description).split()), group_of(field)
    if field.annotation is bool:
        add_option(parser, name, bool, help_text, group=group)
        return
    # the settings check values; text is no YAML, which would read 2:4 as a number, off as False
    kind = str if _is_text(field.annotation) else Any
    details = {"metavar": _metavar(field.annotation), "default": field.default}
    add_option(parser, name, kind, help_text, group=group, **details)


def _is_text(annotation: Any) -> bool:
    """Whether a field holds text or one of some words, if it holds anything.

    >>> _is_text(str | None), _is_text(Literal["on", "off"]), _is_text(int | None)
    (True, True, False)
    """
    if annotation is str or get_origin(annotation) is Literal:
        return True
    members = [member for member in get_args(annotation) if member is not type(None)]
    return bool(members) and all(map(_is_text, members))


def _metavar(annotation: Any) -> str:
    """Return how the help shows the type of a field: ``INT``, or choices such as ``{on,off}``.

    >>> _metavar(int | None), _metavar(Literal["on", "off"])
    ('INT', '{on,off}')
    """
    if get_origin(annotation) is Literal:
        return f"{{{','.join(get_args(annotation))}}}"
    if annotation in _KINDS:
        return _KINDS[annotation]
    (kind,) = (member for member in get_args(annotation) if member is not type(None))
    return _metavar(kind)
