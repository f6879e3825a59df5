"""The commands as a user types them, mistakes included."""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import planner
from planner import Run, search
from planner.cli.main import COMMANDS, _parser, main
from planner.export import proof
from tests import ROOT
from tests.planner.searching.test_search_model import SMALL

OPTIONS = [f"--{name}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def run(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return search(str(saved_llama), out=tmp_path_factory.mktemp("runs") / "run", **SMALL)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail as a user's mistake; give its one message."""
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    lines = [line for line in message.splitlines() if line.startswith("planner: ")]
    assert len(lines) == 1
    assert "Traceback" not in message
    return lines[0]


# ---- start-up


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from planner.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'pymoo', 'optuna', 'pandas', 'numpy', 'datasets'}\n"
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        before = _children_seconds()
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        seconds.append(_children_seconds() - before)
        assert done.returncode == 0
        assert all(name in done.stdout for name in COMMANDS)
    # processor time: what a user waits on an idle machine, whatever else shares this one
    assert min(seconds) <= 0.5


def test_a_pattern_alone_is_no_number() -> None:
    options = _parser("search").parse_args(["search", "m", "--out=x", "--space", "2:4"])
    assert options.search.space == "2:4"


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_public_names() -> None:
    assert sorted(planner.__all__) == planner.__all__
    assert all(getattr(planner, name) is not None for name in planner.__all__)
    assert len(planner.__all__) <= 10
    with pytest.raises(AttributeError, match="nonsense"):
        _ = planner.nonsense


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "inspect" in capsys.readouterr().out


# ---- the road


def test_inspect(saved_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(saved_llama)]) == 0
    out = capsys.readouterr().out
    assert "LlamaForCausalLM" in out
    assert "6 layers: 2 KV groups in attention, 48 channels in the MLP" in out
    assert "12 sites with 3 or 13 levels" in out


def test_search_front_export(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["search", str(saved_llama), *OPTIONS, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    chosen = Run.open(out).best("params<=0.8x").plan_id
    (marked,) = (line for line in printed.splitlines() if line.startswith("→"))
    assert f" {chosen} " in marked
    assert "for the plan that cuts the same share everywhere: the search" in printed
    assert "the best plan if prior sensitivities added up: the search" in printed
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"

    # searched on, fresh and hold-out: three KL with their errors for every plan
    shown = [line for line in printed.splitlines() if line.count("±") == 3]
    assert len(shown) == len(Run.open(out).front())
    assert main(["front", str(out), "--budget", "params<=0.9x"]) == 0
    assert f"plan {Run.open(out).best('params<=0.9x').plan_id}" in capsys.readouterr().out

    exported = tmp_path / "model"
    assert main(["export", str(out), "--budget", "params<=0.8x", "--out", str(exported)]) == 0
    assert "parameters" in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(exported, trust_remote_code=True)
    promised = Run.open(out).best("params<=0.8x").costs["params"]
    assert model.num_parameters() == promised

    # once more, from the run and the plan file; the dense model does not know the text
    again = tmp_path / "again"
    plan = str(exported / "plan.json")
    assert main(["export", str(saved_llama), "--plan", plan, "--out", str(again)]) == 2
    assert "export it from that run" in capsys.readouterr().err
    assert main(["export", str(out), "--plan", plan, "--out", str(again)]) == 0
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (exported, again))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_compare(saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, few = tmp_path / "all", [*OPTIONS, "--evaluations=4"]
    arguments = ["compare", str(saved_llama), *few, "--recipes=uniform,random"]
    assert main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "is best on hold-out text: KL" in printed
    assert all(str(Run.open(out / name).spent.plans) in printed for name in ("uniform", "random"))
    assert (out / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert (out / "compare.csv").is_file()
    assert main(["front", str(out / "uniform")]) == 0
    assert "the folder of one recipe" in refused(capsys, "front", str(out))
    assert "--resume" in refused(capsys, *arguments, "--out", str(out))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recipes=unifrom", "--budget=params<=0.8x"], "did you mean `uniform`?"),
        (["--recipes=random,random", "--budget=params<=0.8x"], "got `random` 2 times"),
        (["--recipes=random"], "needs a budget with a limit on a cost"),
        (["--recipes=random", "--budget=kl<=0.1"], "needs a budget with a limit on a cost"),
        (["--recipes=random", "--budget=params<0.8x"], "understands only <="),
        (["--budget=params<=0.8x", "--holdout=other.txt"], "must come with `data`"),
    ],
)
def test_a_comparison_that_cannot_be_made(
    options: list[str],
    said: str,
    saved_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "all"
    assert said in refused(capsys, "compare", str(saved_llama), *options, "--out", str(out))
    assert not out.exists()


def test_the_stability_of_a_front(
    run: Run, saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["front", str(run.folder), "--stability"]) == 0
    found, printed = run.stability(), capsys.readouterr().out
    fresh = run.front().set_index("plan_id")["fresh_kl"]
    assert found.ranks.set_index("plan_id")["fresh_kl"].equals(
        fresh.drop(run.front()["plan_id"][0])
    )
    assert f"Spearman {found.spearman:.3f}" in printed
    assert all(plan_id in printed for plan_id in found.ranks["plan_id"])

    few = {**SMALL, "evaluations": 1}
    lone = search(str(saved_llama), out=tmp_path / "run", **few)
    message = refused(capsys, "front", str(lone.folder), "--stability")
    assert "stability needs 3 plans or more" in message


def test_many_budgets_the_knee_and_the_hypervolume(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(run.folder)
    assert main(["front", folder, "--budgets", "0.8x,0.9x,0.001x,parms<=0.5x,kl<=9"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["budget", "plan"]
    assert [line.split()[0] for line in lines] == [
        "params<=0.8x", "params<=0.9x", "params<=0.001x", "parms<=0.5x", "kl<=9",
    ]  # fmt: skip
    assert [line.split()[1] for line in lines[:2]] == [
        run.best(f"params<={share}x").plan_id for share in (0.8, 0.9)
    ]
    assert lines[0].count("±") == 3
    assert "the smallest plan of this model" in lines[2]
    assert "did you mean `params`?" in lines[3]

    knee = run.knee()
    assert knee is not None
    assert main(["front", folder, "--knee", "--reference", "2.5"]) == 0
    printed = capsys.readouterr().out
    (marked,) = (line for line in printed.splitlines() if line.startswith("→"))
    assert marked.split()[:3] == ["→", "knee", knee.plan_id]
    assert "to KL 2.5 at" in printed
    assert f"knee: plan {knee.plan_id}" in printed

    assert main(["front", folder, "--against", folder]) == 0
    assert "plans beaten by the other run, 0 significantly" in capsys.readouterr().out

    assert main(["front", folder]) == 0
    printed = capsys.readouterr().out
    assert "→" not in printed
    assert "hypervolume 0." in printed
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("knee  ")] == [
        knee.plan_id
    ]


def test_settings_from_a_file(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{name}: {value}" for name, value in {**SMALL, "evaluations": 9}.items()]
    config = tmp_path / "search.yaml"
    config.write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "run"
    assert main(["search", "--config", str(config), str(saved_llama), "--out", str(out)]) == 0
    assert Run.open(out).settings.evaluations == 9


def test_the_readme_in_python(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = ROOT / "README.md"
    code = readme.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 6
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        planner, "search", lambda *a, **k: search(*a, **{**SMALL, **k}), raising=False
    )
    exec(code.replace("path/to/model", str(saved_llama)), {})
    assert (tmp_path / "pruned" / "model.safetensors").is_file()


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
    assert "cannot be loaded" in refused(capsys, "inspect", str(damaged))


def test_another_architecture(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    (damaged / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "causal language model" in refused(capsys, "inspect", str(damaged))


# ---- mistakes: text, budgets, runs


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "empty"), (b"\x00\x01\x02" * 50, "binary"), (b"\xff\xfe\xfa" * 50, "UTF-8")],
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
    assert "params, size, macs, kv" in message


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--population=1", "`population` must be at least 2, got 1"),
        ("--searcher=tpes", "choose a `searcher`"),
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
        (["--budgets", ""], "must name one budget or more, got ''; give some such as"),
        (["--budgets", " , "], "must name one budget or more"),
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


def test_a_demo_leaves_other_runs_alone(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.cli.demo.demo_model", lambda: Path("elsewhere.gguf"))
    assert "must be free or hold an earlier demo" in refused(
        capsys, "demo", "--out", str(run.folder)
    )
    assert len(Run.open(run.folder).front()) > 1


def test_a_verdict_is_given_for_the_budget_of_the_search_alone(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["front", str(run.folder), "--budget", "params<=0.8x"])
    assert "the search" in capsys.readouterr().out
    main(["front", str(run.folder), "--budget", "params<=0.9x"])
    assert "the search" not in capsys.readouterr().out


def test_without_a_budget_baselines_are_compared_with_at_the_bend_of_the_front(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = [option for option in OPTIONS if not option.startswith("--budget")]
    folder = str(tmp_path / "run")
    assert main(["search", str(saved_llama), *free, "--out", folder]) == 0
    plan = Run.open(tmp_path / "run").best(Run.open(tmp_path / "run").get_meta("baselines_within"))
    for command in ([], ["front", folder], ["front", folder, "--knee"]):
        if command:
            assert main(command) == 0
        printed = capsys.readouterr().out
        assert f": plan {plan.plan_id}\non hold-out text KL " in printed
        assert "for the plan that cuts the same share everywhere: the search" in printed
        assert "the best plan if prior sensitivities added up" in printed
    assert main(["front", folder, "--budget", "params<=0.9x"]) == 0
    assert "prior sensitivities" not in capsys.readouterr().out


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
    assert str(path) in message


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


def test_an_output_folder_that_exists(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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
    honest = proof.logits_of
    for place in ("pipeline", "proof"):  # with weights of its own, and without
        monkeypatch.setattr(
            f"planner.export.{place}.logits_of", lambda *a: honest(*a) + torch.randn(1) * 0.1
        )
    out = tmp_path / "model"
    assert main(export(run, out, "--budget", "params<=0.8x")) == 1  # our defect, not the user's
    assert "must compute what was scored" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
