"""Whatever changes what a model computes or reads is named; whatever does not is the same."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from search_spaces.models import Offload
from search_spaces.models.identity import SourceIdentity, difference
from search_spaces.models.loading import load_model
from tests.models.factory import VOCABULARY


def identity(folder: Path, **options: Any) -> SourceIdentity:
    return load_model(str(folder), **options).identity


@pytest.fixture
def folder(saved_llama: Path, tmp_path: Path) -> Path:
    copied = tmp_path / "model"
    shutil.copytree(saved_llama, copied)
    return copied


def change_json(path: Path, **values: object) -> None:
    held = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**held, **values}), encoding="utf-8")


def swap_words(folder: Path) -> None:
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = values["model"]["vocab"]
    vocabulary["w3"], vocabulary["w4"] = vocabulary["w4"], vocabulary["w3"]
    path.write_text(json.dumps(values), encoding="utf-8")


def split_otherwise(folder: Path) -> None:
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "pre_tokenizer": None}), encoding="utf-8")


def between_samples(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = {name: weight.clone() for name, weight in load_file(path).items()}
    for weight in weights.values():
        flat, count = weight.view(-1), weight.numel()
        sampled = [index * (count - 1) // 64 for index in range(64)]
        kept = flat[sampled].clone()
        flat.mul_(-1)
        flat[sampled] = kept
    save_file(weights, path, metadata={"format": "pt"})


def rows_swapped(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weight = weights["model.embed_tokens.weight"]
    # sampled positions of 96 rows of 32: none of them in rows 10 and 11 but these two
    swapped = weight.clone()
    swapped[10, 20:], swapped[11, 20:] = weight[11, 20:], weight[10, 20:]
    weights["model.embed_tokens.weight"] = swapped
    save_file(weights, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (
            lambda folder: change_json(
                folder / "config.json",
                rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
            ),
            "config.json changed since the search: rope_theta 10000 → 500000",
        ),
        (
            lambda folder: change_json(folder / "config.json", rms_norm_eps=0.1),
            "config.json changed since the search: rms_norm_eps 1e-06 → 0.1",
        ),
        (
            lambda folder: change_json(
                folder / "config.json", hidden_act="gelu", rms_norm_eps=0.1, bos_token_id=7
            ),
            "config.json changed since the search: bos_token_id 1 → 7, and 2 more",
        ),
        (
            lambda folder: change_json(folder / "generation_config.json", temperature=0.2),
            "generation_config.json changed since the search: temperature",
        ),
        (swap_words, "its tokenizer changed since the search: tokenizer "),
        (split_otherwise, "its tokenizer changed since the search: tokenizer "),
        (between_samples, "its weights changed since the search: checksum "),
        (rows_swapped, "its weights changed since the search: "),
    ],
)
def test_a_change_is_named(change: Callable[[Path], object], named: str, folder: Path) -> None:
    before = identity(folder)
    change(folder)
    found = difference(before, identity(folder), "the search")
    assert found.startswith(named)
    assert len(found) < 150


def resaved(folder: Path) -> None:
    load: Any = AutoModelForCausalLM.from_pretrained
    load(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()


def widened(folder: Path) -> None:
    load: Any = AutoModelForCausalLM.from_pretrained
    load(folder, dtype=torch.float64).save_pretrained(folder)


def unimportant(folder: Path) -> None:
    change_json(
        folder / "config.json",
        transformers_version="4.0.0",
        _name_or_path="elsewhere",
        torch_dtype="float32",
        use_cache=False,
        attention_dropout=0.5,
        auto_map={"AutoConfig": "x.Y"},
    )
    change_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    (folder / "README.md").write_text("# A model\n", encoding="utf-8")


@pytest.mark.parametrize("change", [resaved, widened, unimportant])
def test_the_same_model_in_other_files_is_the_same(
    change: Callable[[Path], object], folder: Path
) -> None:
    before = identity(folder)
    change(folder)
    assert not difference(before, identity(folder), "the search")


@pytest.mark.parametrize("offload", ["never", "always"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_neither_place_nor_arithmetic_is_part_of_a_model(
    offload: Offload, dtype: torch.dtype, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity(folder, verify="full")
    moved = folder.rename(folder.parent / "moved")
    monkeypatch.chdir(folder.parent)
    now = identity(Path("moved"), offload=offload, dtype=dtype, verify="full")
    assert now == before
    assert moved.is_dir()


def test_full_verification_notices_what_sums_cannot(folder: Path) -> None:
    before = identity(folder, verify="full")
    now = before.model_copy(update={"digest": "0" * 64})
    assert "its weights changed since the search: digest" in difference(before, now, "the search")
    assert not difference(before, now.model_copy(update={"digest": ""}), "the search")


def test_another_version_of_the_libraries_is_no_change(folder: Path) -> None:
    now = identity(folder)
    values = {**now.config, "of_an_older_version": 1, "rms_norm_eps": 0.5}
    older = now.model_copy(
        update={"transformers": "4.0.0", "tokenizer": "written otherwise", "config": values}
    )
    assert difference(older, now, "the search").endswith("rms_norm_eps 0.5 → 1e-06")
    nothing = SourceIdentity(
        architecture=now.architecture, fingerprint=now.fingerprint, params=now.params
    )
    assert not difference(nothing, now, "the search")
    assert VOCABULARY == 96


OWN_CODE = """from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
    scale = {scale}
"""


def test_changed_code_that_was_trusted_is_named(folder: Path) -> None:
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    architectures = ["OwnForCausalLM"]
    change_json(
        folder / "config.json", model_type="own", auto_map=classes, architectures=architectures
    )
    found = []
    for scale in (1, 2):
        (folder / "own.py").write_text(OWN_CODE.format(scale=scale), encoding="utf-8")
        found.append(identity(folder, trust_remote_code=True))
    before, now = found
    assert difference(before, now, "the search").startswith("its code changed since the search")
