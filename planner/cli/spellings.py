"""Spellings of commands and options: hyphens or underscores, current or former names."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from search_spaces.errors import SettingsError
from search_spaces.suggestions import suggestion

FORMER_COMMANDS = {"split": "to-moe"}
FORMER_OPTIONS = {
    "guess": "prior",
    "ranking": "importance",
    "expert_ranking": "expert_importance",
    "windows": "search_windows",
    "statistics_windows": "calibration_windows",
    "level_gigabytes": "weight_cache_gigabytes",
}
FORMER_OPTIONS_OF = {"to-moe": {"windows": "calibration_windows"}}
"""By command, if an option's former name meant something else there."""
_MOVED_OPTIONS = {
    ("front", "plan"): "`planner show RUN PLAN` shows what a plan keeps",
    ("search", "model"): "the model comes without one: `planner search MODEL`",
}
"""What to type instead of an option that a command no longer has, or never had."""


def current_command(word: str, commands: Collection[str]) -> str:
    """Return the current name of a command.

    Raises:
        SettingsError: If there is no such command.
    """
    name = FORMER_COMMANDS.get(word, word)
    if name not in commands:
        rule = f"a command must be one that exists, got `{word}`"
        raise SettingsError(f"{rule}; {suggestion(word, commands)}")
    return name


def current_option(written: str, command: str | None, options: Collection[str]) -> str:
    """Return the current spelling of an option's name.

    >>> current_option("--guess", "search", ["prior", "new_tokens"])
    '--prior'
    >>> current_option("new-tokens", "search", ["prior", "new_tokens"])
    'new_tokens'

    Args:
        written: The name with two dashes in front, which may be abbreviated; or a key in YAML.
        command: Command that it is an option of; none: of the planner itself.
        options: Names of the command's options, with underscores.

    Raises:
        SettingsError: If the command has no such option, or several.
    """
    dashes = "--" if written.startswith("--") else ""
    name = written.removeprefix("--").replace("-", "_")
    if name not in options:
        former_names = FORMER_OPTIONS | FORMER_OPTIONS_OF.get(command or "", {})
        name = former_names.get(name, name)
    if name in options:
        return dashes + name
    names = [dashes + option for option in options]
    completions = [full for full in names if dashes and name and full.startswith(dashes + name)]
    if len(completions) == 1:
        return completions[0]
    if completions:
        rule = f"an abbreviation must stand for one option, got `{written}`"
        raise SettingsError(f"{rule}; choose from {', '.join(completions)}")
    remedy = _MOVED_OPTIONS.get((command or "", name)) or suggestion(
        dashes + name, names, f"see `{help_command(command)}`"
    )
    raise SettingsError(f"an option must be one that exists, got `{written}`; {remedy}")


def current_words(
    words: Sequence[str], command: str | None, options: Collection[str]
) -> list[str]:
    """Return the words after a command with its options' current names, values untouched.

    >>> current_words(["m", "--mlp-step=8", "--guess", "a-b"], "search", ["mlp_step", "prior"])
    ['m', '--mlp_step=8', '--prior', 'a-b']

    Raises:
        SettingsError: If the command has no such option, or its value says that values follow.
    """
    current = list(words)
    for position, word in enumerate(words):
        if word == "--":  # only values follow
            break
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            if value == "--":  # argparse drops it
                rule = f"`{name}` must be followed by a value, got `--`"
                raise SettingsError(f"{rule}; write `./--` for a file of that name")
            current[position] = current_option(name, command, options) + equals + value
    return current


def current_keys(
    values: Mapping[str, Any], command: str | None, options: Collection[str]
) -> dict[str, Any]:
    """Return the values of a YAML file under their options' current names.

    Raises:
        SettingsError: If the command has no such option, or two keys name one.
    """
    current: dict[str, Any] = {}
    written: dict[str, str] = {}
    for key, value in values.items():
        name = current_option(key.removeprefix("--"), command, options)
        if name in current:
            rule = f"a file must give each option once, got `{written[name]}` and `{key}`"
            raise SettingsError(f"{rule}; keep one of them")
        current[name], written[name] = value, key
    return current


def help_command(command: str | None) -> str:
    """Return what to type for the help of a command, or of the planner itself."""
    return " ".join(filter(None, ["planner", command, "--help"]))
