"""Evaluations of a tiny model on a tiny task, from the command line to the verdict."""

import json
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file, save_file

from planner.cli.main import main
from planner.evaluate.evaluation import evaluate_model
from planner.evaluate.evaluation_results import Evaluation
from planner.settings.evaluate import EvaluateSettings
from planner.targets.bundled_code import PRUNED, runs_own_code_alone
from search_spaces.errors import ModelError, SettingsError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import load_model
from search_spaces.models.own_exports import code_digest
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan
from tests.models.families import FAMILIES
from tests.planner.cli.commands import refused
from tests.planner.evaluate.tiny_task import SAMPLES
from tests.planner.export.exports import export


def measured(model: Path, **values: Any) -> Evaluation:
    settings = EvaluateSettings.checked(model=str(model), dtype="float32", **values)
    return evaluate_model(settings)


@pytest.fixture
def broken(llama_copy: Path) -> Path:
    """The Llama with another last norm and other embeddings: it knows nothing."""
    weights = load_file(llama_copy / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name, weight in weights.items():
        if "embed" in name or "lm_head" in name:
            weights[name] = torch.randn(weight.shape, generator=generator)
    save_file(weights, llama_copy / "model.safetensors", {"format": "pt"})
    return llama_copy


def test_a_model_that_computes_no_numbers_is_refused_in_tasks_too(
    llama_copy: Path, tasks: Path
) -> None:
    weights = load_file(llama_copy / "model.safetensors")
    norm = next(name for name in weights if name.endswith("model.norm.weight"))
    weights[norm][:] = 3e38  # finite, but no logits are
    save_file(weights, llama_copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"and of .* that of an answer is nan; try `--dtype"):
        measured(llama_copy, tasks=str(tasks))


def no_network(*_: object) -> NoReturn:
    raise AssertionError("nothing is fetched")


def test_a_model_is_as_good_as_itself_and_nothing_is_fetched(
    saved_llama: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", no_network)
    found = measured(saved_llama, dense=str(saved_llama), tasks=str(tasks / "tiny.yaml"))
    task = found.tasks["tiny"]
    assert task.dense == task.pruned
    assert task.pruned is not None
    assert task.pruned.value == 1  # gold is the model's own likeliest choice
    assert task.samples == SAMPLES
    assert task.difference is not None
    assert (task.difference.lost, task.difference.won) == (0, 0)
    assert (task.difference.p_value, task.difference.verdict) == (1.0, "not shown to be worse")
    assert found.perplexity is None


def test_a_broken_model_is_worse(
    saved_llama: Path,
    broken: Path,
    tasks: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, log = tmp_path / "found.json", tmp_path / "samples.jsonl"
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"w{3 + 7 * index % 93}" for index in range(400)), encoding="utf-8")
    options = ["--dense", str(saved_llama), "--tasks", str(tasks), "--data", str(text)]
    options += ["--evaluation_windows", "8", "--window_tokens", "32", "--dtype", "float32"]
    options += ["--out", str(out), "--log_samples", str(log)]
    assert main(["evaluate", str(broken), *options]) == 0
    printed = capsys.readouterr()
    assert "Running loglikelihood" not in printed.err  # the harness's own bars
    lines = [line.split() for line in printed.out.splitlines()]
    row = next(line for line in lines if line[:1] == ["tiny"])
    found = Evaluation.model_validate_json(out.read_text(encoding="utf-8"))
    difference = found.tasks["tiny"].difference
    assert difference is not None
    assert row[1:3] == ["worse", "acc"]
    assert difference.verdict == "worse"
    assert difference.won == 0  # where the dense model is always right
    assert difference.lost is not None
    assert difference.gain == pytest.approx(-difference.lost / SAMPLES)
    samples = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert len(samples) == SAMPLES
    wrong = [sample for sample in samples if sample["pruned"]["acc"] == 0]
    assert len(wrong) == difference.lost
    assert all(sample["dense"]["acc"] == 1 for sample in samples)
    assert found.perplexity is not None
    assert found.perplexity.windows == 8
    assert found.environment["packages"]


def test_the_dense_model_is_found_by_the_manifest(
    saved_llama: Path, broken: Path, tasks: Path
) -> None:
    identity = identify(load_model(str(saved_llama)).model).model_dump()
    told = {"version": 1, "source": str(saved_llama), "text": "", "model": identity}
    (broken / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    found = measured(broken, tasks=str(tasks), limit=6)
    assert found.dense == str(saved_llama)
    assert found.tasks["tiny"].samples == 6
    told["source"] = str(saved_llama.parent / "gone")
    (broken / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    found = measured(broken, tasks=str(tasks), limit=6)
    assert found.dense is None
    assert found.tasks["tiny"].difference is None


def test_a_dense_model_that_changed_is_not_compared_with(
    saved_llama: Path, llama_copy: Path, tasks: Path
) -> None:
    identity = identify(load_model(str(saved_llama)).model).model_dump()
    told = {"source": str(saved_llama), "model": identity | {"fingerprint": "another"}}
    (llama_copy / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(ModelError, match="its weights changed since the export"):
        measured(llama_copy, tasks=str(tasks))


def test_an_export_runs_its_own_code_and_no_other(
    saved_llama: Path, llama: ModelStructure, tasks: Path, tmp_path: Path
) -> None:
    family = FAMILIES["llama"]
    folder = tmp_path / "export"
    export(load_model(str(saved_llama)), llama, irregular_plan(family), folder)
    found = measured(folder, dense=str(saved_llama), tasks=str(tasks))
    assert found.tasks["tiny"].difference is not None
    mark = tmp_path / "ran"
    code = folder / PRUNED.file
    planted = code.read_text(encoding="utf-8") + f"\nopen({str(mark)!r}, 'w')\n"
    code.write_text(planted, encoding="utf-8")
    # whatever the folder says of it
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["wiring"]["code"] = code_digest(planted)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="brings Python code of its own must be trusted"):
        measured(folder, tasks=str(tasks))
    assert not mark.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_an_export_that_names_other_code_is_not_trusted(
    file: str, saved_llama: Path, llama: ModelStructure, tmp_path: Path
) -> None:
    folder = tmp_path / "export"
    family = FAMILIES["llama"]
    export(load_model(str(saved_llama)), llama, irregular_plan(family), folder)
    assert runs_own_code_alone(folder)
    told = json.loads((folder / file).read_text(encoding="utf-8"))
    told["auto_map"] = {**told.get("auto_map", {}), "AutoTokenizer": "other.Tokenizer"}
    (folder / file).write_text(json.dumps(told), encoding="utf-8")
    assert not runs_own_code_alone(folder)


def test_other_tokens_are_not_compared(saved_llama: Path, llama_copy: Path) -> None:
    tokenizer = llama_copy / "tokenizer.json"
    text = tokenizer.read_text(encoding="utf-8").replace('"w95"', '"v95"')
    tokenizer.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match="must share their tokens"):
        measured(llama_copy, dense=str(saved_llama), data=__file__)


def test_a_template_for_chats_is_needed_to_ask_as_one(saved_llama: Path, tasks: Path) -> None:
    with pytest.raises(SettingsError, match="needs a tokenizer with a template"):
        measured(saved_llama, tasks=str(tasks), apply_chat_template=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "perplexity needs text that people wrote"),
        (("--limit=0", "--tasks=x"), "`limit` must be at least 1"),
        (("--limit=3",), "`limit` is of tasks"),
        (("--num_fewshot=-1",), "`num_fewshot` must be at least 0"),
        (("--dense=/nowhere", "--data=pyproject.toml"), "does not exist"),
        (("--tasks=/nowhere.yaml",), "does not exist"),
        (("--tasks= , ",), "`tasks` must name one"),
        (("--evaluation_windows=1",), "`evaluation_windows` must be at least 2"),
        (("--window_tokens=100", "--data=README.md"), "at most the 64 positions"),
        (("--device=nowhere",), "`device` must be one that torch finds"),
    ],
)
def test_mistakes(
    options: tuple[str, ...], said: str, saved_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(capsys, "evaluate", str(saved_llama), *options)


def test_folders_of_other_kinds(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is a run; export a plan of it first" in refused(capsys, "evaluate", str(searched))
    for file, runtime in (("model.gguf", "llama.cpp"), ("model.onnx", "ONNX Runtime")):
        folder = tmp_path / runtime
        folder.mkdir()
        (folder / file).touch()
        assert f"for {runtime}; evaluate" in refused(capsys, "evaluate", str(folder))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "must hold `config.json`" in refused(capsys, "evaluate", str(empty), "--data=x.txt")
    assert "does not exist" in refused(capsys, "evaluate", str(tmp_path / "none"), "--data=x.txt")
