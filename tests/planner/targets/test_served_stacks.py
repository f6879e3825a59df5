"""Stacks of layers as targets write them, and how they are timed in their runtimes."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from gguf import TokenType

from evaluators.latency.latency_setting import ServingRuntime
from evaluators.latency.stack_cases import StackCase
from evaluators.latency.workload import Latency, Workload
from evaluators.runtime import RuntimeName
from planner.targets.cut_layers import CutLayers
from planner.targets.gguf import gguf_target
from planner.targets.gguf.gguf_vocabulary import Vocabulary
from planner.targets.served_stacks import (
    ServedStackTimer,
    describe_runtime,
    serving_choice,
    stacked,
    time_folder,
)
from planner.targets.target_names import TargetChoice, TargetName
from search_spaces.errors import VerificationError
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.reading.read import read_structure
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import FORMATS
from search_spaces.structure.model import ModelStructure

WORKLOAD = Workload(prompt_tokens=4, new_tokens=2)
CASE = StackCase(layers=(0, 2), kept=(1, 0))


@pytest.fixture(scope="module")
def loaded(saved_llama: Path) -> LoadedModel:
    return load_model(str(saved_llama))


@pytest.fixture(scope="module")
def structure(loaded: LoadedModel) -> ModelStructure:
    return read_structure(loaded.model)


def plain_words(size: int) -> Vocabulary:
    """A vocabulary that takes no trying."""
    return Vocabulary(
        model="llama",
        tokens=[f"t{number}" for number in range(size)],
        types=[TokenType.NORMAL] * size,
        scores=[0.0] * size,
    )


class FakeTarget:
    """Writes the counts of what it is given."""

    choice = TargetChoice(name="gguf", options={"file_type": "F16"})
    runtime_version = "7"

    def write(self, folder: Path, cut: CutLayers, _dense: LoadedModel, source: object) -> None:
        assert source is None
        (folder / "kept").write_text(" ".join(str(len(kept)) for kept in cut.kept))

    def dense_folder(self, scratch: Path, _structure: object, _dense: object) -> Path:
        (scratch / "kept").write_text("all")
        return scratch


def test_all_layers_but_those_of_a_stack_are_dropped(structure: ModelStructure) -> None:
    cut = stacked(structure, CASE)
    heads = len(cut.kept[0])
    assert heads == len(structure.components[0].members(np.arange(heads * 2), 1))
    assert [len(kept) for kept in cut.kept[:6]] == [heads, 0, 0, 0, heads, 0]
    first, second = (sum(w.numel() for w in layer.parameters()) for layer in cut.layers[:2])
    dense = sum(w.numel() for w in structure.backbone.layers[0].parameters())
    assert second < first < dense


def test_a_stack_in_a_number_format_holds_its_bytes(loaded: LoadedModel) -> None:
    structure = read_structure(loaded.model).with_ends()
    held = FORMATS["Q8_0"]
    case = replace(CASE, options=BlockOptions(format=held), ends=held)
    cut = stacked(structure, case)
    assert [bool(matrices) for matrices in cut.quantized[:3]] == [True, False, True]
    names = {name for name in cut.quantized[0] if name.startswith("self_attn")}
    assert names == set(cut.quantized[0])  # what is dropped has none
    weights = dict(cut.layers[0].named_parameters())
    for name, matrix in cut.quantized[0].items():
        assert matrix.shape == tuple(weights[name].shape)
        torch.testing.assert_close(matrix.dequantized(), weights[name], rtol=0, atol=0.02)
    parameters = dict(structure.backbone.model.named_parameters())
    assert cut.quantized_ends.keys() <= parameters.keys()
    assert len(cut.quantized_ends) == len(structure.ends)
    assert len(cut.kept) == len(structure.components)
    assert not stacked(structure, CASE).quantized


def test_each_stack_is_written_once_and_timed_as_often_as_asked(
    structure: ModelStructure,
    loaded: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Path] = []

    def timed(_target: object, folder: Path, workload: Workload, *, threads: int) -> Latency:
        assert (threads, workload) == (3, WORKLOAD)
        asked.append(folder)
        return Latency(prefill_ms=len(asked), decode_ms=0.5)

    monkeypatch.setattr("planner.targets.served_stacks.time_folder", timed)
    target: Any = FakeTarget()
    runtime = describe_runtime("llama.cpp", target, torch.float32, 3)
    assert str(runtime) == "llama.cpp 7 in file_type F16 with 3 threads"
    timer = ServedStackTimer(target, runtime, structure, loaded, WORKLOAD, scratch=tmp_path)
    assert timer.time_dense().tolist() == [1, 0.5]
    assert timer.time(CASE).tolist() == [2, 0.5]
    assert timer.time(CASE).tolist() == [3, 0.5]
    assert (asked[0] / "kept").read_text() == "all"
    assert asked[1] == asked[2] != asked[0]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("runtime", "dtype"), [("llama.cpp", "bfloat16"), ("onnxruntime", "float32")]
)
def test_a_target_without_options_keeps_the_format_on_disk_or_has_one_only(
    runtime: RuntimeName, dtype: str
) -> None:
    target: Any = FakeTarget()
    target.choice = TargetChoice(name="gguf")
    assert describe_runtime(runtime, target, torch.bfloat16, 1) == ServingRuntime(
        name=runtime, version="7", threads=1, dtype=dtype
    )


def test_each_runtime_but_torch_serves_what_a_target_writes() -> None:
    choices = {name: serving_choice(name) for name in get_args(RuntimeName)}
    assert choices.pop("torch") is None
    assert {name: choice and choice.name for name, choice in choices.items()} == {
        "llama.cpp": "gguf",
        "onnxruntime": "onnx",
    }


@pytest.mark.parametrize(
    ("name", "stacks"),
    [("gguf", [(1, 0), (0, 12)]), ("onnx", [(0, 12)])],  # attention alone, and MLPs alone
)
def test_stacks_of_one_component_run_where_they_are_served_and_what_is_none_is_refused(
    name: TargetName,
    stacks: list[tuple[int, int]],
    structure: ModelStructure,
    loaded: LoadedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gguf_target, "vocabulary_of", lambda _tokenizer, size: plain_words(size))
    target = TargetChoice(name=name).make()
    for kept in stacks:
        folder = tmp_path / str(kept[0])
        folder.mkdir()
        case = StackCase(layers=(0, 1, 2), kept=kept)
        target.write(folder, stacked(structure, case), loaded, None)
        monkeypatch.chdir(folder)  # the process began elsewhere
        latency = time_folder(target, Path(), WORKLOAD, threads=1)
        assert latency.prefill_ms > 0
        assert latency.decode_ms > 0
    with pytest.raises((VerificationError, RuntimeError)):
        time_folder(target, tmp_path, WORKLOAD, threads=1)
    assert time_folder(target, folder, WORKLOAD, threads=1).prefill_ms > 0
