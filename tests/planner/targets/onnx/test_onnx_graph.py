"""Each kind of structure as a graph: its logits are those of the blind dense model."""

from pathlib import Path

import numpy as np
import onnx_ir
import pytest
import torch
from transformers import PreTrainedTokenizerBase

from planner.targets.onnx.graph_assembly import Template
from planner.targets.onnx.layer_tracing import Boundary, Trace
from planner.targets.onnx.onnx_graph import GraphWriter
from planner.targets.onnx.onnx_runtime import MODEL_FILE, OnnxRuntime
from planner.targets.onnx.placed_layer import placed
from search_spaces.reading.read import read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import irregular_plan, random_tokens
from tests.models.factory import twin
from tests.models.families import FAMILIES
from tests.planner.export.exports import export
from tests.planner.targets.onnx.graphs import (
    ROUNDING,
    Graph,
    cut_down,
    loaded,
    plans,
    write_graph,
)

KINDS = list(plans(FAMILIES["llama"]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_blind_dense_model_does(graphs: dict[str, Graph], kind: str) -> None:
    assert _gap(graphs[kind]) <= ROUNDING


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


def test_half_precision_is_written_in_float32_and_other_widths_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, half = _rounded_twins(FAMILIES["qwen2"].structure(layers=1))
    writer = GraphWriter(half)
    for width in (48, 21):
        kept = [np.arange(2), np.arange(width)]
        writer.write(tmp_path, placed(cut_down(half, kept)))
        graph = Graph(family=FAMILIES["qwen2"], structure=exact, kept=kept, folder=tmp_path)
        assert _gap(graph) <= ROUNDING
        monkeypatch.setattr("planner.targets.onnx.onnx_graph.trace", None)
    assert half.backbone.model.dtype == torch.bfloat16


def _rounded_twins(structure: ModelStructure) -> tuple[ModelStructure, ModelStructure]:
    """Return a model of bfloat16 numbers in float32, and the same in bfloat16."""
    exact, half = twin(structure), twin(structure)
    for dtype, models in ((torch.bfloat16, (exact, half)), (torch.float32, (exact,))):
        for weight in (weight for each in models for weight in each.backbone.model.parameters()):
            weight.data = weight.data.to(dtype)
    return exact, half


def test_integers_of_a_layer_are_found_wherever_they_stand() -> None:
    hidden, output = onnx_ir.Value(name="hidden"), onnx_ir.Value(name="output")
    shape = onnx_ir.Value(name="shape", const_value=onnx_ir.tensor([2, 96]))
    weight = onnx_ir.Value(name="layer.weight", const_value=onnx_ir.tensor([7]))
    half = onnx_ir.node("Constant", [], {"value_int": 48})
    split = onnx_ir.node("Any", [hidden, shape, weight, half.outputs[0]], outputs=[output])
    assert split.op_type == "Any"
    boundary = Boundary(hidden=hidden, call=(), output=output, past=(), present=())
    trace = Trace(inputs={}, layers=(boundary,), logits=output)
    template = Template(boundary=boundary, trace=trace, prefix="layer.")
    assert template.integers() == {2, 96, 48}


def _gap(graph: Graph) -> float:
    """Return the largest difference of logits, whole and stepped, in their spread."""
    tokens = random_tokens()
    expected, served = graph.expected(tokens), OnnxRuntime(graph.folder, threads=1)
    whole = np.abs(served.logits(tokens.numpy()) - expected).max()
    stepped = np.abs(served.stepped_logits(tokens.numpy()) - expected[:, 6:]).max()
    return float(max(whole, stepped) / expected.std())


@pytest.mark.families
def test_a_width_that_stands_in_the_code_is_traced_for_itself(tmp_path: Path) -> None:
    family = FAMILIES["phi3"]  # splits a fused gate at half its width
    kept = [np.arange(2), np.arange(40), np.arange(2), np.arange(20)]
    graph = write_graph(family.structure(layers=2), kept, family, tmp_path)
    assert _gap(graph) <= ROUNDING


@pytest.mark.families
def test_an_export_of_ours_is_a_model_like_others(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Its blocks have several layers, of which one has the block's place in the cache."""
    family = FAMILIES["llama"]
    structure = family.structure()
    once = export(
        loaded(structure, tokenizer), structure, irregular_plan(family), tmp_path / "once"
    )
    again = read_structure(once.model)
    kept = [np.arange(component.unit_count) for component in again.components]
    graph = write_graph(again, kept, family, tmp_path)
    logits = OnnxRuntime(graph.folder, threads=1).logits(once.tokens.numpy())
    expected = once.expected.numpy()
    assert np.abs(logits - expected).max() <= ROUNDING * expected.std()


@pytest.mark.families
def test_layers_that_compute_by_their_number_are_traced_each(tmp_path: Path) -> None:
    family = FAMILIES["gpt2"]
    structure = family.structure(scale_attn_by_inverse_layer_idx=True, layers=3)
    kept = [np.arange(component.unit_count) for component in structure.components]
    graph = write_graph(structure, kept, family, tmp_path)
    tokens = random_tokens()
    with torch.inference_mode():
        expected = structure.backbone.model(tokens).logits.numpy()
    gap = np.abs(OnnxRuntime(graph.folder, threads=1).logits(tokens.numpy()) - expected).max()
    assert gap <= ROUNDING * expected.std()


@pytest.mark.families
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    graph = write_graph(family.structure(), irregular_plan(family), family, tmp_path)
    assert _gap(graph) <= ROUNDING
