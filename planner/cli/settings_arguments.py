"""Settings as options of a command: their names, choices, defaults, groups and help."""

from argparse import Namespace
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from planner.cli.command_parser import CommandParser
from planner.settings.groups import group_of
from planner.settings.validation import kind_of

Settings = TypeVar("Settings", bound=BaseModel)

_KINDS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def add_option(
    parser: CommandParser, name: str, kind: Any, help_text: str, *, group: str, **details: Any
) -> None:
    """Add an option that is no setting to a titled group.

    Args:
        parser: Of the command.
        name: With underscores.
        kind: ``float``, ``str``, ``Path`` or names to choose from; ``bool``: a flag.
        help_text: What it does, in a line or two.
        group: Title of the group.
        details: What else argparse takes, such as ``default`` and ``required``.
    """
    parser.declare(name, kind)
    _add(parser, name, kind, help_text, group=group, **details)


def add_settings(
    parser: CommandParser,
    settings: type[BaseModel],
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
) -> None:
    """Add the fields of some settings as options; the settings read the text themselves.

    Args:
        parser: Of the command.
        settings: With a field ``model``, which becomes the positional argument.
        only: Fields to offer; by default all.
        without: Fields to leave out; ``model`` is in all else.
    """
    for name, field in settings.model_fields.items():
        if name in without:
            continue
        if name == "model":
            parser.add_argument(name, help=field.description)
        elif not only or name in only:
            _add_field(parser, name, field)


def given_settings(options: Namespace, settings: type[Settings]) -> dict[str, Any]:
    """Return the values of those options that are fields of some settings."""
    return {name: value for name, value in vars(options).items() if name in settings.model_fields}


def _add(
    parser: CommandParser, name: str, kind: Any, help_text: str, *, group: str, **details: Any
) -> None:
    details |= {"action": "store_true"} if kind is bool else {"metavar": _metavar(kind)}
    parser.group(group).add_argument(f"--{name}", help=help_text, **details)


def _add_field(parser: CommandParser, name: str, field: FieldInfo) -> None:
    help_text, group = " ".join(str(field.description).split()), group_of(field)
    _add(parser, name, field.annotation, help_text, group=group, default=field.default)


def _metavar(annotation: Any) -> str:
    """Return how the help shows the type of a field: ``INT``, or choices such as ``{on,off}``.

    >>> _metavar(int | None), _metavar(Literal["on", "off"])
    ('INT', '{on,off}')
    """
    if get_origin(annotation) is Literal:
        return f"{{{','.join(get_args(annotation))}}}"
    return _KINDS[kind_of(annotation)]
