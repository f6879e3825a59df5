"""Each kind of structure as a graph: its logits are those of the blind dense model."""

from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch

from planner.targets.onnx import onnx_graph
from planner.targets.onnx.onnx_graph import GraphWriter
from planner.targets.onnx.onnx_runtime import MODEL_FILE, OnnxRuntime
from planner.targets.onnx.placed_layer import placed
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, random_tokens
from tests.models.factory import twin
from tests.models.families import FAMILIES
from tests.planner.targets.onnx.graphs import ROUNDING, Graph, cut_down, plans, write_graphs

KINDS = list(plans(FAMILIES["llama"]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_blind_dense_model_does(graphs: dict[str, Graph], kind: str) -> None:
    graph, tokens = graphs[kind], random_tokens()
    expected = graph.expected(tokens)
    served = OnnxRuntime(graph.folder, threads=1)
    whole = served.logits(tokens.numpy())
    allowed = ROUNDING * expected.std()
    assert np.abs(whole - expected).max() <= allowed
    stepped = served.stepped_logits(tokens.numpy())
    assert stepped.shape == (2, 6, expected.shape[-1])
    assert np.abs(stepped - expected[:, 6:]).max() <= allowed


def test_only_layers_with_an_attention_have_a_cache_of_their_own_heads(
    graphs: dict[str, Graph],
) -> None:
    graph = onnx_ir.load(graphs["all of it"].folder / MODEL_FILE).graph
    shapes = {str(each.name): each.shape for each in graph.inputs}
    # layer 3 is gone, so the dense layers 0, 1, 2, 4, 5 are 0 to 4
    heads = {name: shape[1] for name, shape in shapes.items() if shape and len(shape) == 4}
    assert heads == {
        f"past_key_values.{layer}.{part}": count
        for layer, count in ((1, 2), (3, 1), (4, 2))
        for part in ("key", "value")
    }
    assert [str(each.name) for each in graph.outputs] == [
        "logits",
        *(name.replace("past_key_values", "present") for name in heads),
    ]


def test_no_layer_is_traced_twice(
    llama: ModelStructure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: list[list[int]] = []
    real = onnx_graph.trace

    def counted(backbone, probe, layers, caches):  # type: ignore[no-untyped-def]
        traced.append(sorted(layers))
        return real(backbone, probe, layers, caches)

    monkeypatch.setattr(onnx_graph, "trace", counted)
    writer = GraphWriter(llama)
    widths = placed(cut_down(llama, plans(FAMILIES["llama"])["widths"]))
    writer.write(tmp_path, widths)
    assert traced == [[0]]  # six widths, of which the trace says none
    writer.write(tmp_path, widths[3:])
    assert traced == [[0]]


def test_a_width_that_stands_in_the_code_is_traced_for_itself(tmp_path: Path) -> None:
    structure = FAMILIES["phi3"].structure(layers=2)  # splits a fused gate at half its width
    kept = {"": [np.arange(2), np.arange(40), np.arange(1), np.arange(20)]}
    (graph,) = write_graphs("phi3", structure, kept, tmp_path).values()
    tokens = random_tokens()
    expected = graph.expected(tokens)
    gap = np.abs(OnnxRuntime(graph.folder, threads=1).logits(tokens.numpy()) - expected).max()
    assert gap <= ROUNDING * expected.std()


def test_a_model_in_half_precision_is_written_in_float32(tmp_path: Path) -> None:
    structure = FAMILIES["qwen2"].structure(layers=1)
    exact = twin(structure)
    half = twin(structure)
    for model in (exact.backbone.model, half.backbone.model):
        for weight in model.parameters():
            weight.data = weight.data.bfloat16()
    for weight in exact.backbone.model.parameters():
        weight.data = weight.data.float()
    kept = {"": [np.arange(2), np.arange(48)]}
    (graph,) = write_graphs("qwen2", half, kept, tmp_path).values()
    assert half.backbone.model.dtype == torch.bfloat16
    tokens = random_tokens()
    with torch.inference_mode():
        expected = exact.backbone.model(tokens).logits.numpy()
    gap = np.abs(OnnxRuntime(graph.folder, threads=1).logits(tokens.numpy()) - expected).max()
    assert gap <= ROUNDING * expected.std()


@pytest.mark.families
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    kept = {"": irregular_plan(family)}
    (graph,) = write_graphs(name, family.structure(), kept, tmp_path).values()
    tokens = random_tokens()
    expected = graph.expected(tokens)
    served = OnnxRuntime(graph.folder, threads=1)
    allowed = ROUNDING * expected.std()
    assert np.abs(served.logits(tokens.numpy()) - expected).max() <= allowed
    assert np.abs(served.stepped_logits(tokens.numpy()) - expected[:, 6:]).max() <= allowed
