"""Help and docs/options.md, which the parsers and settings write."""

import subprocess
import sys

import pytest

from planner.cli.main import COMMANDS, command_parser, main
from planner.cli.options_page import options_page
from planner.settings.groups import Group, group_of
from planner.settings.search import SearchSettings
from planner.settings.to_moe import ToMoeSettings
from tests import ROOT


def help_of(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert main([command, "--help"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_the_page_of_options_is_the_committed_one() -> None:
    committed = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert committed == options_page(), "run `make docs`"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_on_the_page_and_in_the_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = help_of(capsys, command)
    section = options_page().split(f"## `planner {command}`")[1].split("\n## ")[0]
    for action in command_parser(command)._actions:
        name = action.option_strings[-1] if action.option_strings else action.dest
        assert name in printed
        assert name in ("--help", "--print_config") or f"`{name}`" in section


def test_an_option_shows_its_type_choices_and_default_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = help_of(capsys, "search")
    assert "--racing NAME" in printed
    assert "One of tests, halving, off. (default: tests)" in printed
    assert "--minutes FLOAT Stop the search after this many minutes;" in printed
    assert "--seed INT Random seed; the same seed gives the same front. (default: 0)" in printed
    assert "--out PATH Folder of the run. (required)" in printed
    assert "Any" not in printed
    assert printed.count("(default: wanda)") == 1


@pytest.mark.parametrize("command", ["export", "inspect", "compare"])
def test_a_setting_is_the_same_option_in_each_command(command: str) -> None:
    search, other = (
        {action.dest: action for action in command_parser(name)._actions}
        for name in ("search", command)
    )
    assert "trust_remote_code" in other
    for name in other.keys() & SearchSettings.model_fields.keys() - {"model", "budget", "recover"}:
        shown = [(a.help, a.metavar, a.default) for a in (search[name], other[name])]
        assert shown[0] == shown[1], name


@pytest.mark.parametrize("settings", [SearchSettings, ToMoeSettings])
def test_every_setting_has_a_group(settings: type[SearchSettings | ToMoeSettings]) -> None:
    assert {group_of(field) for field in settings.model_fields.values()} <= set(Group)


def test_the_package_is_a_command() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "planner", "serch"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert "did you mean `search`?" in finished.stderr
