"""What a user names to be exported is found, or refused in one sentence, before anything long."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from planner.cli.main import main
from planner.export.choose import Request, export_chosen
from search_spaces.progress import NO_PROGRESS

MOST_SIGNS = 300


@pytest.fixture(autouse=True)
def nothing_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*_: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("planner.export.run_exports.open_model", loaded)


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command, and give the one sentence that refuses it."""

    def refused(*words: str) -> str:
        out = [] if any(word.startswith("--out") for word in words) else [f"--out={tmp_path}/out"]
        command = [] if words[0] in {"export", "to-moe"} else ["export"]
        assert main([*command, *words, *out]) == 2
        said = [x for x in capsys.readouterr().err.splitlines() if x.startswith("planner: ")]
        assert len(said) == 1
        assert len(said[0]) <= MOST_SIGNS
        assert not (tmp_path / "out").exists()
        return said[0]

    return refused


@pytest.mark.parametrize("plan", ["nosuchplan", "x" * 500, "a\nb", "../no/x", "🦙", "plan.yaml"])
def test_an_unknown_plan_is_told(plan: str, searched: Path, refusal: Callable[..., str]) -> None:
    said = refusal(str(searched), f"--plan={plan}")
    assert "must be the id of a plan of this run or a .json file" in said
    assert "planner front" in said


@pytest.mark.parametrize(
    "content", [None, "", "{", "[]", "null", "\x00", '{"version": 4}', "[" * 9999]
)
def test_a_file_that_is_no_plan_is_told(
    content: str | None, saved_llama: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    plan = tmp_path / "my.json"
    if content is not None:
        plan.write_text(content)
    assert "my.json" in refusal(str(saved_llama), f"--plan={plan}")


def test_a_folder_for_a_plan_is_told(
    saved_llama: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    (tmp_path / "plan.json").mkdir()
    assert "plan.json" in refusal(str(saved_llama), f"--plan={tmp_path / 'plan.json'}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs one of `--plan`, `--budget`, `--knee`, `--budgets` and `--front`, got none"),
        (["--plan=a", "--budget=params<=0.8x"], "got `--plan` and `--budget`; give one"),
        (["--plan=abc"], "is no run, so `--plan` must be a plan file of that model"),
    ],
)
def test_one_plan_must_be_named(
    words: list[str], said: str, saved_llama: Path, refusal: Callable[..., str]
) -> None:
    assert said in refusal(str(saved_llama), *words)


def test_a_run_that_may_not_be_read_is_told(
    searched: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path.is_file

    def forbidden(path: Path) -> bool:
        if path.parent == searched:
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(Path, "is_file", forbidden)
    said = refusal(str(searched), "--plan=abc")
    assert "settings.yaml` must be one that can be used, got: Permission denied" in said


@pytest.mark.parametrize("source", ["x" * 300, "no/such/run", "nosuchrun", "~nosuchuser/run"])
def test_a_run_that_is_not_there_is_told(source: str, refusal: Callable[..., str]) -> None:
    refusal(source, "--budget=params<=0.8x")


def test_a_model_with_an_overlong_name_is_told(refusal: Callable[..., str]) -> None:
    for command in (["export", "x" * 3000, "--plan=p.json"], ["to-moe", "x" * 300]):
        refusal(*command)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 240])
def test_an_out_without_a_place_is_told(
    name: str, searched: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    said = refusal(str(searched), "--budget=params<=0.9x", f"--out={tmp_path / name}")
    assert "choose a shorter name" in said


def test_an_out_that_is_the_run_or_in_the_model_is_told(
    searched: Path, saved_llama: Path, refusal: Callable[..., str]
) -> None:
    budget = "--budget=params<=0.9x"
    assert "must not exist yet" in refusal(str(searched), budget, f"--out={searched}")
    inside = f"--out={saved_llama / 'export'}"
    assert "outside of the model's folder" in refusal(str(searched), budget, inside)


def test_a_run_and_a_plan_may_be_written_from_a_home(
    searched: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(searched.parent))
    (searched.parent / "plan").write_text("{}", encoding="utf-8")
    run = f"~/{searched.name}"
    assert "cannot be met" in refusal(run, "--budget=params<=0.001x")
    assert "`~/plan` must be a plan of version" in refusal(run, "--plan=~/plan")


def test_trust_comes_from_this_command_alone(
    searched_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bool] = []

    def loaded(settings: Any, _: object) -> None:
        given.append(settings.trust_remote_code)
        raise InterruptedError

    monkeypatch.setattr("planner.export.run_exports.open_model", loaded)
    saved = searched_copy / "settings.yaml"
    lines = [x for x in saved.read_text(encoding="utf-8").splitlines() if "trust_" not in x]
    saved.write_text("\n".join([*lines, "trust_remote_code: true\n"]), encoding="utf-8")
    for trust in (False, True):
        with pytest.raises(InterruptedError):
            export_chosen(
                str(searched_copy),
                Request(budget="params<=0.9x", trust_remote_code=trust),
                out=tmp_path / "out",
                progress=NO_PROGRESS,
            )
    assert given == [False, True]
