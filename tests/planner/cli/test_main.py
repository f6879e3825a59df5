"""The commands as a user types them."""

import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import planner
from planner import Run, search
from planner.cli.main import COMMANDS, command_parser, main
from tests import ROOT
from tests.planner.cli.commands import OPTIONS, refused
from tests.settings import SMALL

pytestmark = pytest.mark.arithmetic
# ---- start-up


def test_help_answers_at_once() -> None:
    code = "from planner.cli.main import main; main(['--help'])"
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


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"planner {version('compression-planner')}\n"


def test_a_pattern_alone_is_no_number() -> None:
    options = command_parser("search").options(["m", "--out=x", "--space", "2:4"])
    assert options.space == "2:4"


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
    assert main(["inspect", str(saved_llama), "--dtype=float16"]) == 0
    out = capsys.readouterr().out
    assert "LlamaForCausalLM" in out
    assert "6 layers: 2 KV groups in attention, 48 channels in the MLP" in out
    assert "12 sites with 3 or 13 levels" in out
    assert "scoring in float16 on cpu (as `--dtype` says)" in out


def test_search_front_export(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["search", str(saved_llama), *OPTIONS, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    chosen = Run.open(out).best("params<=0.8x").plan_id
    (marked,) = (line for line in printed.splitlines() if line.startswith("→"))
    assert f" {chosen} " in marked
    assert "for the uniform plan (the same share pruned everywhere): the search" in printed
    assert "the additive plan (the best plan if sensitivities added up): the search" in printed
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"

    # searched on, fresh and held-out: three KL with their errors for every plan
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
    assert "is best on held-out text: KL" in printed
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
    assert "plans dominated by the other run, 0 significantly" in capsys.readouterr().out

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


def test_a_verdict_is_given_for_the_budget_of_the_search_alone(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["front", str(run.folder), "--budget", "params<=0.8x"])
    assert "the search" in capsys.readouterr().out
    main(["front", str(run.folder), "--budget", "params<=0.9x"])
    assert "the search" not in capsys.readouterr().out


def test_without_a_budget_baselines_are_compared_with_at_the_knee_of_the_front(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = [option for option in OPTIONS if not option.startswith("--budget")]
    folder = str(tmp_path / "run")
    assert main(["search", str(saved_llama), *free, "--out", folder]) == 0
    run = Run.open(tmp_path / "run")
    plan = run.best(run.metadata.baselines_within or "")
    for command in ([], ["front", folder], ["front", folder, "--knee"]):
        if command:
            assert main(command) == 0
        printed = capsys.readouterr().out
        assert f": plan {plan.plan_id}\non held-out text KL " in printed
        assert "for the uniform plan (the same share pruned everywhere): the search" in printed
        assert "the additive plan (the best plan if sensitivities added up)" in printed
    assert main(["front", folder, "--budget", "params<=0.9x"]) == 0
    assert "additive" not in capsys.readouterr().out
