"""``docs/options.md``: every option of every command, written from what the parsers offer.

``make docs`` runs ``python -m planner.cli.options_page > docs/options.md``.
"""

from argparse import Action, ArgumentParser, _ArgumentGroup
from collections.abc import Iterator, Mapping

from planner.cli.command_parser import choices_of, remark
from planner.cli.main import COMMANDS, command_parser
from planner.cli.spellings import FORMER_COMMANDS, FORMER_OPTIONS, FORMER_OPTIONS_OF

_INTRODUCTION = """\
# Options

<!-- written by `make docs`, from the docstrings in planner/settings/ and from planner/cli/ -->

All options of all commands, as `planner COMMAND --help` lists them. A name may be written with
underscores or hyphens (`--new_tokens`, `--new-tokens`), and a value after a space or `=`.
`--config FILE` reads options from YAML, one `name: value` a line, each read as if it were typed;
what the command line gives goes before it. `--print_config` prints options in that form.
`--debug`, anywhere among the words, shows the traceback of what ends a command."""
_HIDDEN = ("help", "print_config")


def options_page() -> str:
    """Return the page in Markdown; what a command shares with `planner search` is named only."""
    search_items = _items(command_parser("search"))
    others = [name for name in COMMANDS if name != "search"]
    sections = [_section("search", {}), *(_section(name, search_items) for name in others)]
    return "\n\n".join([_INTRODUCTION, *sections, _former_names()]) + "\n"


def _section(command: str, described_above: Mapping[str, str]) -> str:
    parser = command_parser(command)
    parts = [f"## `planner {command}`", parser.description or "", f"    {parser.usage}"]
    for group in parser._action_groups:
        items = [
            item
            for name, item in _items(group).items()
            if described_above.get(name) != item or name == "model"
        ]
        items += [f"- {line}" for line in (group.description or "").splitlines()]
        if items:
            parts += [f"**{str(group.title).capitalize()}**", "\n".join(items)]
    shared = [
        f"`{name}`"
        for name, item in _items(parser).items()
        if described_above.get(name) == item and name != "model"
    ]
    if shared:
        parts.append(f"As for `planner search`: {', '.join(shared)}.")
    return "\n\n".join(parts)


def _items(options: ArgumentParser | _ArgumentGroup) -> dict[str, str]:
    """Return items of a list, by option: its name, type or choices, default and description."""
    actions = options._actions if isinstance(options, ArgumentParser) else options._group_actions
    items = {}
    for action in actions:
        if action.dest not in _HIDDEN:
            name = action.option_strings[-1] if action.option_strings else action.dest
            details = "; ".join(_details(action))
            items[name] = f"- `{name}`{f' ({details})' if details else ''}: {action.help}"
    return items


def _details(action: Action) -> Iterator[str]:
    choices = choices_of(action)
    if choices:
        yield f"one of {', '.join(f'`{choice}`' for choice in choices)}"
    elif action.metavar and action.nargs != 0:
        yield str(action.metavar).lower()
    elif action.nargs == 0:
        yield "flag"
    text = remark(action)
    if text.startswith("default: "):
        yield f"default `{text.removeprefix('default: ')}`"
    elif text:
        yield text


def _former_names() -> str:
    items = [f"- `planner {old}` is `planner {new}`" for old, new in FORMER_COMMANDS.items()]
    items += [f"- `--{old}` is `--{new}`" for old, new in FORMER_OPTIONS.items()]
    items += [
        f"- `planner {command} --{old}` is `--{new}`"
        for command, names in FORMER_OPTIONS_OF.items()
        for old, new in names.items()
    ]
    return "\n\n".join(["## Former names", "These still work:", "\n".join(items)])


if __name__ == "__main__":
    print(options_page(), end="")
