"""Real weights whose layers differ in every way compute in onnxruntime what they do in torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from planner.cli.commands.demo_command import PROMPT, demo_model
from planner.targets.onnx.onnx_target import TOLERANCE, OnnxTarget
from planner.targets.onnx.other_readers import genai_tokens, openvino_logits
from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from tests.models.candidates import run_layers
from tests.planner.targets.onnx.graphs import cut_down

pytestmark = pytest.mark.real


@pytest.mark.timeout(1200)
def test_smollm2_with_holes_of_every_kind(tmp_path: Path) -> None:
    dense = load_model(str(demo_model()), dtype=torch.float32)
    structure = read_structure(dense.model)
    counts = [component.unit_count for component in structure.components]
    counts[40:42] = 0, 0  # layer 20
    counts[0] = counts[6] = 0  # attention of 0 and 3
    counts[25] = counts[59] = 0  # MLP of 12 and of the last layer
    counts[11], counts[31], counts[14] = 1024, 800, 2
    pruned = cut_down(structure, [np.arange(count) for count in counts])
    target = OnnxTarget()
    target.write(tmp_path, pruned, dense, None)
    tokens = torch.arange(0, 48_000, 1_000).reshape(2, 24)
    expected = run_layers(structure, pruned.layers, tokens).numpy()
    allowed = TOLERANCE * expected.std()
    prompt = list(dense.tokenizer(PROMPT).input_ids)
    with target.serve(tmp_path, threads=1, exact=True) as served:
        assert np.abs(served.logits(tokens.numpy()) - expected).max() <= allowed
        assert np.abs(served.stepped_logits(tokens.numpy()) - expected[:, 12:]).max() <= allowed
        written = served.greedy(prompt, 32)
    assert genai_tokens(tmp_path, prompt, 32) == written
    assert np.abs(openvino_logits(tmp_path, tokens.numpy()) - expected).max() <= allowed
