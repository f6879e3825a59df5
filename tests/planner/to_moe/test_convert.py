"""A dense model becomes a stock mixture of experts that holds it exactly."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from planner.cli.main import main
from planner.settings.to_moe import ToMoeSettings
from planner.to_moe.convert import convert_to_moe
from search_spaces.errors import InputError, ModelError, StructureError, VerificationError
from tests.models.factory import WIDTH, make_model, write_tokenizer
from tests.models.families import FAMILIES, dense

OWN_FAMILY = """
from transformers import LlamaConfig, LlamaForCausalLM


class Config(LlamaConfig):
    model_type = "own_llama"


class Model(LlamaForCausalLM):
    config_class = Config
"""
SMALL: dict[str, Any] = {"experts": 4, "shared": 16, "calibration_windows": 6, "window_tokens": 32}


def folder_of(name: str, place: Path) -> Path:
    """Write a tiny model of a family, with its tokenizer."""
    folder = place / name
    dense(name).backbone.model.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def loaded(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(mode=False)
    return model


def tokens_to_compare() -> Tensor:
    return torch.randint(3, 96, (2, 40), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def split_llama(saved_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = ToMoeSettings.checked(model=str(saved_llama), active=3, **SMALL)
    return convert_to_moe(settings, tmp_path_factory.mktemp("split") / "moe")


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2"])
def test_all_experts_together_are_the_dense_model(name: str, tmp_path: Path) -> None:
    settings = ToMoeSettings.checked(model=str(folder_of(name, tmp_path)), **SMALL)
    model = loaded(convert_to_moe(settings, tmp_path / "moe"))
    assert type(model).__name__ == "Qwen2MoeForCausalLM"
    tokens = tokens_to_compare()  # longer than Mistral's window
    with torch.no_grad():
        expected = dense(name).backbone.model(tokens).logits
        got = model(tokens).logits
    # experts weigh 1 / count up to 2^-14, and sums run in another order
    assert float((got - expected).abs().max()) <= 1e-3 * float(expected.std())


def test_fewer_active_experts_leave_out_what_the_router_wants_least(split_llama: Path) -> None:
    model = loaded(split_llama)
    component: Any = model.get_submodule("model.layers.2.mlp")
    inputs = torch.randn(1, 7, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got = component(inputs)[0]
        logits = inputs[0] @ component.gate.weight.T
        expected = component.shared_expert(inputs[0]) / 2
        for token, row in enumerate(logits):
            for expert in row.argsort(descending=True)[:3].tolist():
                up = component.experts.gate_up_proj[expert] @ inputs[0, token]
                gate, value = up.chunk(2)
                written = component.experts.down_proj[expert] @ (
                    torch.nn.functional.silu(gate) * value
                )
                expected[token] += written / 4
    assert model.config.num_experts_per_tok == 3
    assert torch.allclose(got, expected, atol=1e-3 * float(expected.std()))


def test_every_channel_is_somewhere_once(split_llama: Path, saved_llama: Path) -> None:
    ours, theirs = (load_file(f / "model.safetensors") for f in (split_llama, saved_llama))
    prefix = "model.layers.1.mlp"
    parts = [ours[f"{prefix}.shared_expert.gate_proj.weight"]]
    parts += [ours[f"{prefix}.experts.{expert}.gate_proj.weight"] for expert in range(4)]
    assert [len(part) for part in parts] == [16, 8, 8, 8, 8]
    rows = {tuple(row.tolist()) for part in parts for row in part}
    assert rows == {tuple(row.tolist()) for row in theirs[f"{prefix}.gate_proj.weight"]}
    assert len(rows) == WIDTH


def test_the_same_seed_gives_the_same_split(
    split_llama: Path, saved_llama: Path, tmp_path: Path
) -> None:
    settings = ToMoeSettings.checked(model=str(saved_llama), active=3, **SMALL)
    again = convert_to_moe(settings, tmp_path / "again")
    first, second = (load_file(f / "model.safetensors") for f in (split_llama, again))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_manifest_says_what_was_proved(split_llama: Path) -> None:
    manifest = json.loads((split_llama / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["logit_gap"] <= manifest["logit_gap_allowed"]
    assert (manifest["shared"], manifest["channels"], manifest["active"]) == (16, 8, 3)
    assert manifest["tokens"] == 6 * 32
    assert "config.json" in manifest["files"]
    # 16 + 3 · 8 of 48 channels
    assert "83% of the channels" in (split_llama / "README.md").read_text(encoding="utf-8")


def test_text_of_the_user_is_read(saved_llama: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"w{3 + index * 7 % 93}" for index in range(2000)), encoding="utf-8")
    settings = ToMoeSettings.checked(model=str(saved_llama), data=str(text), **SMALL)
    folder = convert_to_moe(settings, tmp_path / "moe")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["text"] == str(text)


def test_a_family_that_no_stock_class_holds_is_refused(tmp_path: Path) -> None:
    settings = ToMoeSettings.checked(model=str(folder_of("gemma3", tmp_path)), **SMALL)
    with pytest.raises(StructureError, match=r"one of llama, mistral, qwen2.*gemma3"):
        convert_to_moe(settings, tmp_path / "moe")
    assert not (tmp_path / "moe").exists()


def test_biases_without_a_home_are_refused(tmp_path: Path) -> None:
    config = FAMILIES["llama"].config()
    config.attention_bias = True
    folder = tmp_path / "biased"
    make_model(config).save_pretrained(folder)
    write_tokenizer(folder)
    with pytest.raises(StructureError, match=r"no biases but those.*o_proj\.bias"):
        convert_to_moe(ToMoeSettings.checked(model=str(folder), **SMALL), tmp_path / "moe")


def test_a_head_of_its_own_is_kept_whatever_the_config_says(
    saved_llama: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved_llama, tmp_path / "own_head"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    made = convert_to_moe(ToMoeSettings.checked(model=str(folder), **SMALL), tmp_path / "moe")
    tokens = tokens_to_compare()
    with torch.no_grad():
        expected, got = loaded(saved_llama)(tokens).logits, loaded(made)(tokens).logits
    assert float((got - expected).abs().max()) <= 1e-3 * float(expected.std())
    written = json.loads((made / "config.json").read_text(encoding="utf-8"))
    assert written["tie_word_embeddings"] is False


def test_each_weight_keeps_its_format(saved_llama: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved_llama, tmp_path / "mixed"))
    weights = load_file(folder / "model.safetensors")
    formats = {
        name: torch.float32 if "norm" in name or "layers.1.mlp" in name else torch.bfloat16
        for name in weights
    }
    mixed = {name: weight.to(formats[name]) for name, weight in weights.items()}
    save_file(mixed, folder / "model.safetensors", metadata={"format": "pt"})
    made = convert_to_moe(ToMoeSettings.checked(model=str(folder), **SMALL), tmp_path / "moe")
    stored = load_file(made / "model.safetensors")
    for name, weight in stored.items():
        is_wide = "norm" in name or "layers.1.mlp" in name
        assert weight.dtype == (torch.float32 if is_wide else torch.bfloat16), name


def test_code_that_the_model_brings_is_nothing_to_build_on(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search_spaces.moefication.qwen2_moe.FAMILIES", ("own_llama",))
    modules = str(tmp_path / "modules")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder = Path(shutil.copytree(saved_llama, tmp_path / "own"))
    (folder / "own_family.py").write_text(OWN_FAMILY, encoding="utf-8")
    own = {"AutoConfig": "own_family.Config", "AutoModelForCausalLM": "own_family.Model"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"model_type": "own_llama", "auto_map": own}
    (folder / "config.json").write_text(json.dumps(config))
    for trust, said in ((False, "trust_remote_code"), (True, "comes with its own code")):
        settings = ToMoeSettings.checked(model=str(folder), trust_remote_code=trust, **SMALL)
        with pytest.raises(ModelError, match=said):
            convert_to_moe(settings, tmp_path / "moe")


def test_what_is_not_the_dense_model_gets_no_name(
    saved_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.to_moe.convert.scaled_router", lambda router, _: router * 100)
    settings = ToMoeSettings.checked(model=str(saved_llama), **SMALL)
    with pytest.raises(VerificationError, match="within"):
        convert_to_moe(settings, tmp_path / "moe")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--experts=3"], "`experts` must be a power of two"),
        (
            ["--experts=4", "--shared=15"],
            "multiple of 8 of the 48 channels, as fast kernels want it, got 15; choose from 16",
        ),
        (["--experts=4", "--shared=32"], "got 32; choose from 16"),
        (["--experts=8"], "got none; lower `--experts`"),
        (["--experts=4", "--shared=48"], "`shared` must leave each of 4 experts"),
        (["--experts=4", "--active=5"], "`active` must be at most the 4 experts, got 5"),
        (["--experts=4", "--active=0"], "`active` must be at least 1"),
        (
            ["--experts=4", "--calibration_windows=1", "--window_tokens=99"],
            "at most the 64 positions",
        ),
        (
            ["--experts=4", "--calibration_windows=1", "--window_tokens=8"],
            "needs at least as many tokens",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    options: list[str],
    said: str,
    saved_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["to-moe", str(saved_llama), f"--out={tmp_path / 'moe'}", *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("planner:")]
    assert len(lines) == 1
    assert said in lines[0]
    assert not (tmp_path / "moe").exists()


def test_a_folder_that_is_there_is_left_alone(saved_llama: Path, tmp_path: Path) -> None:
    settings = ToMoeSettings.checked(model=str(saved_llama), **SMALL)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="must not exist yet"):
        convert_to_moe(settings, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_command_writes_what_it_says(
    saved_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--{name}={value}" for name, value in SMALL.items()]
    assert main(["to-moe", str(saved_llama), f"--out={tmp_path / 'moe'}", *options]) == 0
    assert f"mixture of experts: {tmp_path / 'moe'}" in capsys.readouterr().out
    assert loaded(tmp_path / "moe").config.num_experts == 4
