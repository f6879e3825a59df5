"""Parsers of the command line: spellings of options, help, and refusals in one sentence.

Words are text until the end: a command's options are read by the types that they declare.
"""

import os
import re
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter, Namespace
from argparse import _ArgumentGroup as Group
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

from planner.cli.spellings import current_keys, current_words, help_command
from search_spaces.errors import SettingsError
from search_spaces.paths import existing_path

CONFIG = "config"
PRINT_CONFIG = "print_config"
TRUST = "trust_remote_code"

# what argparse complains of, and the same in our words
_COMPLAINTS = (
    (
        r"argument (?P<option>--\w+): expected one argument",
        "`{option}` must be followed by a value, got nothing; write `{option}=VALUE`",
    ),
    (
        r"argument (?P<option>--\w+): ignored explicit argument (?P<value>.*)",
        "`{option}` takes no value, got {value}; leave it out",
    ),
    (
        r"the following arguments are required: (?P<names>.*)",
        "`{names}` must be given, got nothing; see `{help}`",
    ),
    (
        r"unrecognized arguments: (?P<words>.*)",
        "a command takes only what `{help}` lists, got `{words}` too; leave it out",
    ),
    (r".*", "a command takes only what `{help}` lists, got other words; correct them"),
)
_MOST_WORDS = 80
_LEAST_COLUMN = 20
_PLAIN = str | int | float | bool
"""What YAML holds as it is."""


class OptionHelp(HelpFormatter):
    """Shows an option's description, choices and default, each once; keeps lines apart."""

    def _get_help_string(self, action: Action) -> str:
        choices = choices_of(action)
        listed = f" One of {', '.join(choices)}." if choices else ""
        remark_text = f" ({remark(action)})" if remark(action) else ""
        return f"{action.help or ''}{listed}{remark_text}".replace("%", "%%")

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_filled(line, width, indent) for line in text.splitlines())

    def _format_args(self, action: Action, default_metavar: str) -> str:
        if choices_of(action):
            return "NAME"
        return super()._format_args(action, default_metavar)


def _filled(line: str, width: int, indent: str) -> str:
    """Return a line on as many as it takes; of a row of two columns, below the second.

    >>> print(_filled("  search  search a model and leave a run", 32, ""))
      search  search a model and
              leave a run
    """
    row = re.fullmatch(r"(?P<first> *\S+ {2,})(?P<second>.*)", line)
    is_narrow = row is not None and width - len(row["first"]) < _LEAST_COLUMN
    first, text = (row["first"], row["second"]) if row and not is_narrow else ("", line)
    blank = indent + " " * len(first)
    lines = wrap(text, width, initial_indent=indent + first, subsequent_indent=blank)
    return "\n".join(lines)


class PlannerParser(ArgumentParser):
    """Raises `SettingsError` where argparse would end the process.

    Args:
        command: Command that complaints are about, if one is named.
        options: What else argparse takes, such as ``description``.
    """

    def __init__(self, command: str | None = None, **options: Any) -> None:
        self.command = command
        super().__init__(formatter_class=OptionHelp, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        for pattern, sentence in _COMPLAINTS:
            match = re.fullmatch(pattern, text)
            if match:
                values = {"help": help_command(self.command), **match.groupdict()}
                values["names"] = "`, `".join(values.get("names", "").split(", "))
                values["words"] = values.get("words", "")[:_MOST_WORDS]
                raise SettingsError(sentence.format_map(values))
        raise AssertionError(text)  # the last pattern fits every text


class CommandParser(PlannerParser):
    """Parser of one command's options, in any of their spellings.

    Args:
        command: The command's name.
        description: What it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(command, prog=f"planner {command}", description=description)
        self._groups: dict[str, Group] = {}
        self._kinds: dict[str, Any] = {}

    def declare(self, name: str, kind: Any) -> None:
        """State the type of an argument's value; those of settings state theirs themselves."""
        self._kinds[name] = kind

    def group(self, title: str) -> Group:
        """Return the group of a title."""
        if title not in self._groups:
            self._groups[title] = self.add_argument_group(title)
        return self._groups[title]

    def add_config(self) -> None:
        """Add the options that read the others from a YAML file, and print them as one."""
        help_text = "YAML file with any of these options."
        self.add_argument(f"--{CONFIG}", metavar="PATH", help=help_text, default=SUPPRESS)
        help_text = "Print these options as YAML, and do nothing."
        self.add_argument(f"--{PRINT_CONFIG}", action="store_true", help=help_text)

    def options(self, words: Sequence[str]) -> Namespace:
        """Return the options that words give, over those of a file that they name.

        Raises:
            SettingsError: If a word is no option, a value breaks its rule, or one is missing.
        """
        current = current_words(words, self.command, self._option_names())
        from_file = self._from_file(current)
        is_printed = f"--{PRINT_CONFIG}" in current
        for action in self._actions:
            if is_printed or action.dest in from_file:
                _make_optional(action)
        given = self.parse_args(current, Namespace(**from_file))
        if is_printed:
            self._print(given)
        return self._read(given)

    def _option_names(self) -> list[str]:
        texts = (text for action in self._actions for text in action.option_strings)
        return [text.removeprefix("--") for text in texts if text.startswith("--")]

    def _from_file(self, words: Sequence[str]) -> dict[str, Any]:
        """Return the options of the file that ``--config`` names, under their current names."""
        if CONFIG not in self._option_names():
            return {}
        only_config = PlannerParser(self.command, add_help=False)
        only_config.add_argument(f"--{CONFIG}", default=None)
        path = only_config.parse_known_args(words)[0].config
        if path is None:
            return {}
        from planner.settings.yaml_values import read_yaml

        if not path.strip():
            raise SettingsError("`config` must name a file, got ''; name one or leave it out")
        names = [a.dest for a in self._actions if a.dest not in ("help", CONFIG, PRINT_CONFIG)]
        values = read_yaml(home_path(CONFIG, Path(path)), f"--{CONFIG}")
        values = current_keys(values, self.command, names)
        if _options({TRUST: bool}, {TRUST: values.get(TRUST)})[TRUST]:
            raise SettingsError(
                f"`{TRUST}` must be typed each time, got it from a file; add `--{TRUST}` if you "
                "have read the model's code"
            )
        defaults = {a.dest: a.default for a in self._actions if not a.required}
        # none is what an option is without the file
        given = {n: defaults.get(n) if value is None else value for n, value in values.items()}
        return {n: value for n, value in given.items() if value is not None or n in defaults}

    def _print(self, given: Namespace) -> NoReturn:
        import yaml

        values = {n: v for n, v in vars(given).items() if n not in (CONFIG, PRINT_CONFIG)}
        # paths, and defaults such as a space, are printed as they are typed
        plain = {n: v if isinstance(v, _PLAIN | None) else str(v) for n, v in values.items()}
        print(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), end="")
        raise SystemExit(0)

    def _read(self, given: Namespace) -> Namespace:
        """Return options with those values read that are no settings."""
        values = {name: value for name, value in vars(given).items() if name in self._kinds}
        for name, value in _options(self._kinds, values).items():
            setattr(given, name, home_path(name, value) if isinstance(value, Path) else value)
        return given


def _options(kinds: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values read by these types, each of which may be none."""
    from pydantic import ConfigDict, create_model

    from planner.settings.validation import validated

    fields: dict[str, Any] = {name: (kind | None, None) for name, kind in kinds.items()}
    config = ConfigDict(allow_inf_nan=False)
    return dict(validated(create_model("Options", __config__=config, **fields), values))


def home_path(name: str, path: Path) -> Path:
    """Return the path that one with a leading ``~`` stands for.

    Args:
        name: Of the option that gives it.
        path: As it was written.

    Raises:
        SettingsError: If there is no such user, or no home.
    """
    found = existing_path(str(path))
    if str(found).startswith("~") and not os.path.lexists(found):
        message = f"`{name}` must lie in a home that exists, got `{path}`"
        raise SettingsError(f"{message}; write the path in full")
    return found


def choices_of(action: Action) -> tuple[str, ...]:
    """Return the values that an option takes, if they are listed in its metavar."""
    metavar = action.metavar
    if isinstance(metavar, str) and metavar.startswith("{"):
        return tuple(metavar.strip("{}").split(","))
    return ()


def remark(action: Action) -> str:
    """Return ``required`` or ``default: VALUE``, or nothing."""
    if action.required and action.option_strings:
        return "required"
    # a default of 0 is one, and equals False
    has_default = action.default is not None and action.default is not False
    return f"default: {action.default}" if has_default and action.default != SUPPRESS else ""


def _make_optional(action: Action) -> None:
    """Let argparse not miss an argument that a file gives."""
    action.required = False
    if not action.option_strings:
        action.nargs, action.default = "?", SUPPRESS
