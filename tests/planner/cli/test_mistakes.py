"""Mistakes in commands: each is one sentence, and leaves nothing behind."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from planner import Run
from planner.cli.main import main
from planner.export import reference
from tests.planner.cli.commands import OPTIONS, refused

pytestmark = pytest.mark.arithmetic
# ---- mistakes: models


def test_a_missing_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, "inspect", str(tmp_path / "nothing"))


def test_an_empty_model_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must hold `config.json`" in refused(capsys, "inspect", str(tmp_path))


@pytest.fixture
def damaged(saved_llama: Path, tmp_path: Path) -> Path:
    """A copy of the model folder to be damaged."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in saved_llama.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def test_weights_with_nan(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = load_file(damaged / "model.safetensors")
    name = sorted(weights)[3]
    weights[name].view(-1)[0] = float("nan")
    save_file(weights, damaged / "model.safetensors", metadata={"format": "pt"})
    message = refused(capsys, "inspect", str(damaged))
    assert name in message
    assert "NaN" in message


def test_corrupt_safetensors(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = damaged / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "a whole safetensors file" in refused(capsys, "inspect", str(damaged))


def test_another_architecture(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    (damaged / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "causal language model" in refused(capsys, "inspect", str(damaged))


# ---- mistakes: text, budgets, runs


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"\x00\x01\x02" * 50, "binary"), (b"\xff\xfe\xfa" * 50, "UTF-16")],
)
def test_text_that_is_none(
    content: bytes,
    said: str,
    saved_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    out = ["--data", str(text), "--out", str(tmp_path / "run")]
    assert said in refused(capsys, "search", str(saved_llama), *OPTIONS, *out)


def test_a_misspelt_budget(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "front", str(run.folder), "--budget", "parms<=0.5x")
    assert "params, size, bits, macs, kv" in message


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--population=1", "`population` must be at least 2, got 1"),
        ("--searcher=tpes", "choose one of these for `searcher`"),
        ("--seed=often", "`seed` must be"),
        ("--device=nonsense", "`device` must be one that torch finds here"),
    ],
)
def test_options_out_of_range(
    option: str,
    said: str,
    saved_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert said in refused(
        capsys, "search", str(saved_llama), option, "--out", str(tmp_path / "run")
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--knee", "--budget", "params<=0.8x"], "chooses without a budget"),
        (["--reference", "0"], "`reference` must be a KL above 0, got 0"),
        (["--budgets", ""], "`budgets` must not be empty, got ''; fill it or leave it out"),
        (["--budgets", " ; , "], "must name one budget or more, got ' ; , '; give some such as"),
        (["--budgets", "foo; bar"], "takes 0.7x, not 70%, for a share of the dense model"),
        *[
            (["--budgets", "0.8x", *other], f"and nothing else, got `{other[0]}` too; leave one")
            for other in (
                ["--budget", "params<=0.8x"],
                ["--knee"],
                ["--against", "elsewhere"],
                ["--reference", "0"],
                ["--stability"],
            )
        ],
    ],
)
def test_options_of_a_front_that_do_not_go_together(
    options: list[str], said: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "front", str(run.folder), *options)


def test_a_budget_that_no_plan_of_the_run_meets(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "the nearest reaches" in refused(
        capsys, "front", str(run.folder), "--budget", "params<=0.5x"
    )


def test_a_budget_below_the_smallest(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the smallest plan" in refused(
        capsys, "front", str(run.folder), "--budget", "params<=0.001x"
    )


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "must be the folder of a run" in refused(capsys, "front", str(tmp_path))


def test_a_run_that_exists_already(
    run: Run, saved_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(capsys, "search", str(saved_llama), *OPTIONS, "--out", str(run.folder))
    assert "--resume" in message


# ---- mistakes: exports


def export(run: Run, out: Path, *choice: str) -> list[str]:
    return ["export", str(run.folder), *choice, "--out", str(out)]


def test_an_unknown_plan(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *export(run, tmp_path / "model", "--plan", "0123456789"))
    assert "0123456789" in message


def test_neither_plan_nor_budget(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "got none" in refused(capsys, *export(run, tmp_path / "model"))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": 2}', '{"version": 1, "sites": 3}'])
def test_a_malformed_plan(
    text: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text, encoding="utf-8")
    message = refused(capsys, *export(run, tmp_path / "model", "--plan", str(path)))
    assert "plan.json" in message  # long paths are shortened


def test_a_foreign_plan(
    run: Run, tmp_path: Path, saved_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run.export(run.best("params<=0.8x").plan_id, tmp_path / "model")
    plan = json.loads((made / "plan.json").read_text())
    plan["model"]["fingerprint"] = "0" * 16
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    message = refused(capsys, *export(run, tmp_path / "other", "--plan", str(path)))
    assert "fits only the model it was made for" in message
    assert not (tmp_path / "other").exists()


def test_an_output_folder_that_is_taken(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    message = refused(capsys, *export(run, tmp_path, "--budget", "params<=0.8x"))
    assert "must not exist yet" in message


def test_a_place_that_cannot_be_written(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    out = tmp_path / "file" / "model"
    assert "must be writable" in refused(capsys, *export(run, out, "--budget", "params<=0.8x"))


@contextmanager
def small_files_only(limit: int) -> Iterator[None]:
    """Let the system refuse to write more than some bytes to any file, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_files_only(20_000):
        message = refused(capsys, *export(run, tmp_path / "model", "--budget", "params<=0.8x"))
    assert "must be writable" in message
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_computes_something_else_is_never_announced(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = reference.logits_of
    for place in ("weighted_candidate", "reference"):  # with weights of its own, and without
        monkeypatch.setattr(f"planner.export.{place}.logits_of", lambda *a: honest(*a) + 0.1)
    out = tmp_path / "model"
    assert main(export(run, out, "--budget", "params<=0.8x")) == 1  # our defect, not the user's
    assert "must compute what was scored" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
