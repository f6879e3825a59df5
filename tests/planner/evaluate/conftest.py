"""A tiny task whose answers the tiny Llama knows, in files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from search_spaces.structure.model import ModelStructure
from tests.models.factory import VOCABULARY
from tests.planner.evaluate.tiny_task import CHOICES, PROMPT, SAMPLES, TASK


@pytest.fixture(scope="session", autouse=True)
def _without_a_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Data sets are not cached in anybody's home."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = str(tmp_path_factory.mktemp("datasets"))


@pytest.fixture(scope="session")
def questions(llama: ModelStructure) -> list[dict[str, Any]]:
    """Words, four that may follow, and which of these the dense model holds for likeliest."""
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, VOCABULARY, (SAMPLES, PROMPT))
    choices = np.stack(
        [rng.choice(np.arange(3, VOCABULARY), CHOICES, replace=False) for _ in range(SAMPLES)]
    )
    with torch.no_grad():
        logits = llama.backbone.model(torch.from_numpy(prompts)).logits[:, -1]
    gold = logits.gather(1, torch.from_numpy(choices)).argmax(dim=1)
    return [
        {
            "query": " ".join(f"w{word}" for word in prompt),
            "choices": [f"w{word}" for word in options],
            "gold": int(right),
        }
        for prompt, options, right in zip(prompts, choices, gold, strict=True)
    ]


@pytest.fixture
def tasks(questions: list[dict[str, Any]], tmp_path: Path) -> Path:
    """A folder with the task, in which the dense model is always right."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    (folder / "tiny.jsonl").write_text(lines, encoding="utf-8")
    (folder / "tiny.yaml").write_text(TASK, encoding="utf-8")
    return folder
