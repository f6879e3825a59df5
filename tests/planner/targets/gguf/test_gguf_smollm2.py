"""Real weights whose layers differ in every way compute in llama.cpp what they do in torch."""

from pathlib import Path

import pytest
import torch

from planner.cli.commands.demo_command import PROMPT, demo_model
from planner.targets.gguf.gguf_runtime import served
from planner.targets.gguf.gguf_vocabulary import vocabulary_of
from search_spaces.models.loading import load_model
from search_spaces.reading.read import read_structure
from tests.models.candidates import run_layers
from tests.planner.targets.gguf.kinds import cut_to, gap_in_llama_cpp

pytestmark = pytest.mark.real
# float32 sums of 28 layers in another order
ROUNDING = 1e-4


@pytest.mark.timeout(1200)
def test_smollm2_with_holes_of_every_kind(tmp_path: Path) -> None:
    dense = load_model(str(demo_model()), dtype=torch.float32)
    structure = read_structure(dense.model)
    counts = [component.unit_count for component in structure.components]
    counts[40:42] = 0, 0  # layer 20
    counts[6] = counts[25] = 0  # attention of 3, MLP of 12
    counts[11], counts[31], counts[14] = 1024, 800, 2
    layers = cut_to(structure, counts)
    gap, blocks = gap_in_llama_cpp(structure, layers, tmp_path / "model.gguf")
    assert gap < ROUNDING
    assert blocks.architecture.name == "deci"
    assert vocabulary_of(dense.tokenizer, 49152).model == "gpt2"
    prompt = list(dense.tokenizer(PROMPT).input_ids)
    expected: list[int] = []
    for _ in range(4):
        logits = run_layers(structure, layers, torch.tensor([prompt + expected]))
        expected.append(int(logits[0, -1].argmax()))
    with served(tmp_path / "model.gguf", threads=1) as model:
        assert model.greedy(prompt, 4) == expected
