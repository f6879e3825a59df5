"""Parsers of the command line: spellings of options, help, and refusals in one sentence."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader

from planner.cli.spellings import current_keys, current_words, help_command
from search_spaces.errors import SettingsError

CONFIG = "--config"
_NUMBERS = ("int", "float")

# what argparse and jsonargparse complain of, and the same in our words
_COMPLAINTS = (
    (
        r"argument (?P<option>--\w+): expected one argument",
        "`{option}` must be followed by a value, got nothing; write `{option} VALUE`",
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
    (
        r"Parser key \"(?P<name>\w+)\": Expected an? <class '(?P<kind>\w+)'>. "
        r"Got value: (?P<value>.*)",
        "`--{name}` must be a {kind}, got '{value}'; fix it",
    ),
    (r"(?P<words>.*)", "the options cannot be read: {words}; see `{help}`"),
)


class OptionHelp(DefaultHelpFormatter):
    """Shows an option's description, choices and default, each once; keeps lines apart."""

    def _get_help_string(self, action: Action) -> str:
        choices = choices_of(action)
        listed = f" One of {', '.join(choices)}." if choices else ""
        remark_text = f" ({remark(action)})" if remark(action) else ""
        return f"{action.help or ''}{listed}{remark_text}"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        return "\n".join(fill(line, width, indent) for line in text.splitlines())

    def _format_args(self, action: Action, default_metavar: str) -> str:
        if choices_of(action):
            return "NAME"
        return super()._format_args(action, default_metavar)


class PlannerParser(ArgumentParser):
    """Raises `SettingsError` where argparse would end the process.

    Args:
        command: Command that complaints are about, if one is named.
        options: What else argparse takes, such as ``description``.
    """

    def __init__(self, command: str | None = None, **options: Any) -> None:
        self.command = command
        super().__init__(formatter_class=OptionHelp, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        # in one line, and without the command in names such as search.out
        text = re.sub(rf"\b{self.command}\.", "", " ".join(message.split()))
        for pattern, sentence in _COMPLAINTS:
            match = re.fullmatch(pattern, text)
            if match:
                values = {"help": help_command(self.command), **match.groupdict()}
                if values.get("kind") in _NUMBERS:
                    values["kind"] = "number"
                values["names"] = self._as_typed(values.get("names", ""))
                raise SettingsError(sentence.format_map(values)) from ex
        raise AssertionError(text)  # the last pattern fits every text

    def _as_typed(self, names: str) -> str:
        """Put the dashes before the names of options that a complaint lists."""
        actions = list(self._actions)
        for action in self._actions:  # a missing option of a command is missed by the root parser
            if isinstance(action.choices, dict) and self.command in action.choices:
                actions += action.choices[self.command]._actions
        typed = {text.removeprefix("--"): text for a in actions for text in a.option_strings}
        return "`, `".join(typed.get(name, name) for name in names.split(", "))


class CommandParser(PlannerParser):
    """Parser of one command's options, in any of their spellings."""

    def add_config(self) -> None:
        """Add the option that reads the others from a YAML file."""
        help_text = "YAML file with any of these options."
        self.add_argument(CONFIG, action="config", metavar="PATH", help=help_text)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str], namespace: Namespace | None = None, **kwargs: Any
    ) -> Namespace:
        words = current_words(args, self.command, self._option_names())
        for position, word in enumerate(words):
            if word == CONFIG and position + 1 < len(words):
                words[position + 1] = self._current_yaml(words[position + 1])
            elif word.startswith(f"{CONFIG}="):
                words[position] = f"{CONFIG}={self._current_yaml(word.partition('=')[2])}"
        return super().parse_args(words, namespace, **kwargs)

    def _option_names(self) -> list[str]:
        texts = (text for action in self._actions for text in action.option_strings)
        return [text.removeprefix("--") for text in texts if text.startswith("--")]

    def _current_yaml(self, value: str) -> str:
        """Return the options in a YAML file, or in YAML itself, under their current names."""
        names = [action.dest for action in self._actions]
        return yaml.safe_dump(current_keys(_loaded(value), self.command, names))


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


def _loaded(value: str) -> dict[str, Any]:
    """Read YAML from a file, or from the text itself.

    Raises:
        SettingsError: If there are no options in it.
    """
    try:
        is_file = Path(value).is_file()
        values = get_loader("yaml")(Path(value).read_text(encoding="utf-8") if is_file else value)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        message = f"`config` must be a YAML file with options, got {value!r}, which cannot be read"
        raise SettingsError(f"{message}: {' '.join(str(error).split())}; fix it") from error
    if not isinstance(values, dict) or not values:
        message = f"`config` must be a YAML file with options, got {value!r}"
        raise SettingsError(f"{message}; name a file with lines such as `seed: 1`")
    return values
