"""Options in any spelling, former names, and mistakes in names."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from planner.cli.main import COMMANDS, command_parser, main
from planner.cli.spellings import FORMER_OPTIONS, FORMER_OPTIONS_OF, current_words


def parsed(*words: str) -> dict[str, Any]:
    """Parse the words of a search; give its options."""
    return dict(vars(command_parser("search").options(["m", "--out=x", *words])))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must fail as a user's mistake; give its one line."""
    assert main(list(words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("planner: ")


@pytest.mark.parametrize("words", [["--new-tokens", "3"], ["--new_tokens=3"], ["--new-tokens=3"]])
def test_hyphens_and_underscores(words: list[str]) -> None:
    assert parsed(*words)["new_tokens"] == "3"


def test_values_are_left_alone() -> None:
    assert parsed("--data", "my-data_set", "--column=a-b=c")["data"] == "my-data_set"
    assert parsed("--column=a-b=c")["column"] == "a-b=c"
    assert current_words(["a-b", "--", "--no-option"], "search", []) == [
        "a-b",
        "--",
        "--no-option",
    ]


def test_words_that_yaml_reads_otherwise_are_what_was_typed() -> None:
    assert parsed("--racing", "off")["racing"] == "off"
    assert parsed("--data=1e5")["data"] == "1e5"
    assert parsed("--space", "2:4")["space"] == "2:4"


def test_a_value_that_argparse_would_drop_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "search", "m", "--out=--")
    assert said == (
        "`--out` must be followed by a value, got `--`; write `./--` for a file of that name"
    )
    assert parsed("--data=---")["data"] == "---"


def test_every_former_name_is_of_an_option_that_exists() -> None:
    words = [
        f"--{old.replace('_', '-')}={position}" for position, old in enumerate(FORMER_OPTIONS)
    ]
    options = parsed(*words)
    values = [str(options[new]) for new in FORMER_OPTIONS.values()]
    assert values == [str(position) for position in range(len(words))]
    for command, names in FORMER_OPTIONS_OF.items():
        assert set(names.values()) <= {action.dest for action in command_parser(command)._actions}


def test_a_former_name_that_two_commands_read_differently() -> None:
    options = command_parser("to-moe").options(["m", "--out=x", "--windows", "7"])
    assert options.calibration_windows == "7"
    assert parsed("--windows", "7")["search_windows"] == "7"


def test_former_names_in_a_file(tmp_path: Path) -> None:
    config = tmp_path / "search.yaml"
    config.write_text("guess: owl\nstatistics-windows: 9\nseed: 4\n", encoding="utf-8")
    for words in (["--config", str(config)], [f"--config={config}"]):
        options = parsed(*words, "--seed=5")
        values = [options[name] for name in ("prior", "calibration_windows", "seed")]
        assert values == ["owl", "9", "5"]


def test_the_former_name_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "split", "m", "--out=x", "--windows=0")
    assert message.startswith("`calibration_windows` must be at least 1, got 0")


def test_an_abbreviation_is_completed() -> None:
    assert parsed("--popul", "5")["population"] == "5"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["search", "m", "--budgt", "3"],
            "an option must be one that exists, got `--budgt`; did you mean `--budget`?",
        ),
        (["search", "--model", "m"], "the model comes without one: `planner search MODEL`"),
        (["front", "r", "--modle"], "got `--modle`; see `planner front --help`"),
        (["front", "r", "--zzzz"], "got `--zzzz`; see `planner front --help`"),
        (["front", "r", "--guess=owl"], "got `--guess`; "),
        (
            ["serch", "m"],
            "a command must be one that exists, got `serch`; did you mean `search`?",
        ),
        (["zzzz"], f"choose from {', '.join(COMMANDS)}"),
        (["search", "m", "--out"], "`--out` must be followed by a value, got nothing"),
        (["search", "m"], "`--out` must be given, got nothing; see `planner search --help`"),
        (["to-moe", "--out=x"], "`model` must be given, got nothing"),
        (["front", "r", "--reference=much"], "`reference` must be a number, got 'much'; fix"),
        (["front", "r", "s"], "takes only what `planner front --help` lists, got `s` too"),
        (["search", "m", "--resume=true"], "`--resume` takes no value, got 'true'"),
        (
            ["search", "m", "--out=x", "--w=3"],
            "got `--w`; choose from --window_tokens, --weight_cache_gigabytes",
        ),
        (["--verbose"], "got `--verbose` too"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, *words)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("budgt: 3", "an option must be one that exists, got `budgt`; did you mean `budget`?"),
        ("", "must hold `name: value` in each line, got no key; write for example"),
        ("just words", "must hold `name: value` in each line, got no key"),
        ("- seed: 1", "must hold `name: value` in each line, got a list"),
        ("seed: 1\na: b: c", "must be YAML, got none in line 2; correct it there"),
        ("config: x", "an option must be one that exists, got `config`"),
        ("print_config: true", "an option must be one that exists, got `print_config`"),
        ("print-config: false", "an option must be one that exists, got `print-config`"),
        ("new-tokens: 1\n--new_tokens: 2", "got `new-tokens` and `--new_tokens`; keep one"),
        ("prior: owl\nguess: owl", "each option once, got `prior` and `guess`"),
        ("trust-remote-code: yes", "must be typed each time"),
        ("trust_remote_code: 1", "must be typed each time"),
        ("trust_remote_code: maybe", "`trust_remote_code` must be true or false, got 'maybe'"),
    ],
)
def test_a_file_without_options(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "search.yaml"
    config.write_text(text, encoding="utf-8")
    assert said in refused(capsys, "search", "m", "--out=x", "--config", str(config))


@pytest.mark.parametrize("text", ["off", "no", "0", "False", "null", ""])
def test_a_file_may_deny_trust(text: str, tmp_path: Path) -> None:
    config = tmp_path / "search.yaml"
    config.write_text(f"trust-remote-code: {text}\n--seed: 7", encoding="utf-8")
    options = parsed(f"--config={config}")
    assert options["seed"] == "7"
    assert options["trust_remote_code"] in (False, text)


def _typed(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)


@pytest.mark.parametrize("command", ["search", "compare", "to-moe"])
def test_printed_options_are_read_back(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, words = tmp_path / "options.yaml", [command, "m"]
    if command == "search":
        words += [
            "--budget=params<=0.9x",
            "--space=channels,formats",
            "--formats=Q4_K,int8",
            f"--data={tmp_path}",
        ]
    assert main([*words, "--print_config"]) == 0
    printed = capsys.readouterr().out
    config.write_text(printed, encoding="utf-8")
    assert main([command, f"--config={config}", "--print_config"]) == 0
    first, second = map(yaml.safe_load, (printed, capsys.readouterr().out))
    # a value of a file is the text that is typed
    assert second == {name: _typed(value) for name, value in first.items()}


def test_what_a_file_leaves_empty_is_not_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "search.yaml"
    config.write_text("out: null\nmodel: ~\nresume:\nseed:\n", encoding="utf-8")
    given = ["search", f"--config={config}"]
    assert refused(capsys, *given).startswith("`model`, `--out` must be given, got nothing; ")
    assert "`--out` must be given" in refused(capsys, *given, "m")
    assert parsed(f"--config={config}")["seed"] == 0
    config.write_text("out: null", encoding="utf-8")
    said = refused(capsys, "compare", "m", f"--config={config}")
    assert said.startswith("`--out` must be given")


def test_a_path_that_exists_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/somewhere")
    (tmp_path / "~tiny").mkdir()
    for written, read in (("~tiny", "~tiny"), ("~/run", "/somewhere/run")):
        assert str(command_parser("front").options([written]).run) == read


def test_a_file_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "search", "m", "--config", "nowhere.yaml")
    assert message.startswith("`--config nowhere.yaml` must be a file of YAML that can be read")
