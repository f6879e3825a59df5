"""The target: what it writes, what it holds, and who else loads it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from planner.targets.onnx.onnx_target import OnnxTarget
from planner.targets.onnx.other_readers import genai_tokens, openvino_logits
from planner.targets.target import Target
from search_spaces.errors import MissingExtraError, TargetError, VerificationError
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.models.stored import StoredFormat
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, random_tokens
from tests.models.factory import twin
from tests.models.families import FAMILIES
from tests.models.moe_families import MOE_FAMILIES
from tests.planner.targets.onnx.graphs import ROUNDING, Graph, cut_down

PROMPT = [5, 17, 40]


def _loaded(structure: ModelStructure, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    model = structure.backbone.model
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source="memory",
        stored=StoredFormat(dtype=torch.float32),
        identity=identify(model),
    )


@pytest.fixture(scope="module")
def target() -> Target:
    return OnnxTarget()


@pytest.fixture(scope="module")
def written(
    target: Target,
    llama: ModelStructure,
    tokenizer: PreTrainedTokenizerBase,
    tmp_path_factory: pytest.TempPathFactory,
) -> Graph:
    """Everything at once: a layer without attention, mixed heads, a layer without MLP."""
    folder, family = tmp_path_factory.mktemp("onnx"), FAMILIES["llama"]
    (folder / "source").mkdir()
    (folder / "source" / "LICENSE").write_text("free")
    (folder / "model").mkdir()
    kept = irregular_plan(family)
    dense = _loaded(llama, tokenizer)
    told = target.write(folder / "model", cut_down(llama, kept), dense, folder / "source")
    assert "onnxruntime_genai" in told.loading
    assert not told.needs_remote_code
    return Graph(family=family, structure=llama, kept=kept, folder=folder / "model")


def test_the_folder_has_all_that_a_client_needs(
    written: Graph, tokenizer: PreTrainedTokenizerBase
) -> None:
    names = {path.name for path in written.folder.iterdir()}
    assert names >= {"model.onnx", "model.onnx.data", "genai_config.json", "LICENSE"}
    again = AutoTokenizer.from_pretrained(written.folder)
    assert again("w3 w20").input_ids == tokenizer("w3 w20").input_ids
    config = json.loads((written.folder / "genai_config.json").read_text())
    decoder = config["model"]["decoder"]
    assert (decoder["num_hidden_layers"], decoder["num_key_value_heads"]) == (5, 2)
    assert config["model"]["eos_token_id"] == 2


def test_served_and_in_genai_it_writes_the_tokens_of_torch(written: Graph, target: Target) -> None:
    expected = written.greedy(PROMPT, 32)
    with target.serve(written.folder, threads=1, exact=True) as served:
        assert served.greedy(PROMPT, 32) == expected
    assert genai_tokens(written.folder, PROMPT, 32) == expected


def test_in_openvino_it_computes_the_logits_of_torch(written: Graph) -> None:
    tokens = random_tokens()
    expected = written.expected(tokens)
    gap = np.abs(openvino_logits(written.folder, tokens.numpy()) - expected).max()
    assert gap <= ROUNDING * expected.std()


def test_its_size_is_checked(written: Graph, target: Target) -> None:
    cut = cut_down(written.structure, written.kept)
    model = written.structure.backbone.model
    outside = sum(w.numel() for n, w in model.named_parameters() if ".layers." not in n)
    params = outside + sum(w.numel() for layer in cut.layers for w in layer.parameters())
    target.check_size(written.folder, cut, {"params": params}, 0.0)
    with pytest.raises(VerificationError, match=rf"got {params}; "):
        target.check_size(written.folder, cut, {"params": params + 1}, 0.0)


def test_it_holds_plain_models_whole(target: Target, llama: ModelStructure) -> None:
    assert not target.holds(llama).refuses_model


def test_it_refuses_experts_by_name(target: Target) -> None:
    structure = next(iter(MOE_FAMILIES.values())).structure()
    assert "experts" in target.holds(structure).refuses_model


def test_it_refuses_a_cache_of_more_than_keys_and_values(
    target: Target, llama: ModelStructure
) -> None:
    odd = twin(llama)
    odd.backbone.model.config.layer_types = ["linear_attention"] * len(odd.layers)
    assert "its cache holds more than keys and values" in target.holds(odd).refuses_model


def test_it_refuses_code_that_cannot_be_traced(
    target: Target, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    structure = FAMILIES["llama"].structure(layers=1)
    layer = structure.backbone.layers[0]
    layer.register_forward_pre_hook(_depends_on_values)
    whole = cut_down(structure, [np.arange(2), np.arange(48)])
    with pytest.raises(TargetError, match=r"torch can trace.*`LlamaForCausalLM` is none"):
        target.write(tmp_path, whole, _loaded(structure, tokenizer), None)


def _depends_on_values(_layer: torch.nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (args[0] + 1,) if bool(args[0].sum() > 0) else args


@pytest.mark.parametrize("module", ["onnx_ir", "onnxscript"])
def test_a_missing_package_is_named(
    target: Target, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "planner.targets.onnx.onnx_target.find_spec",
        lambda name: None if name == module else real(name),
    )
    with pytest.raises(MissingExtraError, match=r"compression-planner\[onnx\]"):
        target.check_installed()
