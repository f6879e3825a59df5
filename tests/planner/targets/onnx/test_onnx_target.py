"""The target: what it writes, what it holds, and who else loads it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from planner.targets.onnx.onnx_graph import GraphWriter
from planner.targets.onnx.onnx_target import OnnxTarget
from planner.targets.onnx.other_readers import genai_tokens, openvino_logits
from search_spaces.errors import MissingExtraError, TargetError, VerificationError
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.factory import twin
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.targets.onnx.graphs import ROUNDING, Graph, cut_down, loaded

PROMPT = [5, 17, 40]


@pytest.fixture
def target() -> OnnxTarget:
    return OnnxTarget()


@pytest.fixture
def written(graphs: dict[str, Graph]) -> Graph:
    """A layer without attention, mixed heads, and a layer without MLP."""
    return graphs["all of it"]


def test_the_folder_has_all_that_a_client_needs(
    written: Graph, tokenizer: PreTrainedTokenizerBase
) -> None:
    names = {path.name for path in written.folder.iterdir()}
    assert names >= {"model.onnx", "model.onnx.data", "genai_config.json"}
    again = AutoTokenizer.from_pretrained(written.folder)
    assert again("w3 w20").input_ids == tokenizer("w3 w20").input_ids
    config = json.loads((written.folder / "genai_config.json").read_text())
    decoder = config["model"]["decoder"]
    assert (decoder["num_hidden_layers"], decoder["num_key_value_heads"]) == (5, 2)
    assert config["model"]["eos_token_id"] == 2


def test_the_dense_model_comes_alone_and_a_pruned_one_with_its_papers(
    target: OnnxTarget,
    llama: ModelStructure,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(GraphWriter, "write", lambda *_args: None)
    places = {name: tmp_path / name for name in ("source", "dense", "pruned")}
    for place in places.values():
        place.mkdir()
    (places["source"] / "LICENSE").write_text("free")
    dense = loaded(llama, tokenizer)
    assert target.dense_folder(places["dense"], llama, dense) == places["dense"]
    assert not (places["dense"] / "LICENSE").exists()
    kept = [np.arange(component.unit_count) for component in llama.components]
    told = target.write(places["pruned"], cut_down(llama, kept), dense, places["source"])
    assert (places["pruned"] / "LICENSE").read_text() == "free"
    assert "onnxruntime_genai" in told.loading


def test_served_and_in_genai_it_writes_the_tokens_of_torch(
    written: Graph, target: OnnxTarget
) -> None:
    expected = written.greedy(PROMPT, 32)
    with target.serve(written.folder, threads=1, exact=True) as served:
        assert served.greedy(PROMPT, 32) == expected
    assert genai_tokens(written.folder, PROMPT, 32) == expected


def test_in_openvino_it_computes_the_logits_of_torch(written: Graph) -> None:
    tokens = random_tokens()
    expected = written.expected(tokens)
    gap = np.abs(openvino_logits(written.folder, tokens.numpy()) - expected).max()
    assert gap <= ROUNDING * expected.std()


def test_its_size_is_checked(written: Graph, target: OnnxTarget) -> None:
    cut = cut_down(written.structure, written.kept)
    model = written.structure.backbone.model
    outside = sum(w.numel() for n, w in model.named_parameters() if ".layers." not in n)
    params = outside + sum(w.numel() for layer in cut.layers for w in layer.parameters())
    target.check_size(written.folder, cut, {"params": params}, 0.0)
    with pytest.raises(VerificationError, match=rf"got {params}; "):
        target.check_size(written.folder, cut, {"params": params + 1}, 0.0)


def test_it_holds_plain_models_whole(target: OnnxTarget, llama: ModelStructure) -> None:
    assert not target.holds(llama).refuses_model


def test_it_refuses_experts_by_name(target: OnnxTarget) -> None:
    structure = next(iter(MOE_FAMILIES.values())).structure()
    assert "experts" in target.holds(structure).refuses_model


def test_it_refuses_a_cache_of_more_than_keys_and_values(
    target: OnnxTarget, llama: ModelStructure
) -> None:
    odd = twin(llama)
    odd.backbone.model.config.layer_types = ["linear_attention"] * len(odd.layers)
    assert "its cache holds more than keys and values" in target.holds(odd).refuses_model


def test_it_refuses_code_that_cannot_be_traced(
    target: OnnxTarget, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    structure = FAMILIES["llama"].structure(layers=1)
    layer = structure.backbone.layers[0]
    layer.register_forward_pre_hook(_depends_on_values)
    whole = cut_down(structure, [np.arange(2), np.arange(48)])
    with pytest.raises(TargetError, match=r"torch can trace.*`LlamaForCausalLM` is none"):
        target.write(tmp_path, whole, loaded(structure, tokenizer), None)


def _depends_on_values(_layer: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (args[0] + 1,) if bool(args[0].sum() > 0) else args


@pytest.mark.parametrize("module", ["onnx", "onnx_ir", "onnxscript"])
def test_a_missing_package_is_named(
    target: OnnxTarget, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "planner.targets.onnx.onnx_target.find_spec",
        lambda name: None if name == module else real(name),
    )
    with pytest.raises(MissingExtraError, match=r"compression-planner\[onnx\]"):
        target.check_installed()


def test_who_has_no_extra_can_ask_what_it_holds() -> None:
    code = (
        "import sys; sys.modules.update(onnx_ir=None, onnxscript=None, onnxruntime=None)\n"
        "from planner.targets.target_names import TargetChoice\n"
        "from search_spaces.errors import MissingExtraError\n"
        "target = TargetChoice(name='onnx').make()\n"
        "try:\n    target.check_installed()\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert "pip install 'compression-planner[onnx]'" in told
