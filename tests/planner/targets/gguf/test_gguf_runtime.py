"""llama.cpp's side: what it computes with a cache, how it is timed, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluators.latency.workload import Workload
from planner.targets.gguf.gguf_file import GgufModel, write_file
from planner.targets.gguf.gguf_layers import blocks_of
from planner.targets.gguf.gguf_runtime import llama_cpp, quantize, served
from search_spaces.errors import MissingExtraError, TargetError, VerificationError
from tests.models.candidates import random_tokens, run_layers
from tests.models.families import dense
from tests.planner.targets.gguf.kinds import UNIFORM, cut_to

CUT = UNIFORM["narrow"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    structure, path = dense("llama"), tmp_path_factory.mktemp("gguf") / "model.gguf"
    blocks = blocks_of(structure, cut_to(structure, CUT))
    write_file(path, GgufModel(structure=structure, blocks=blocks), "F32")
    return path


def test_the_most_probable_tokens_are_those_of_torch(path: Path) -> None:
    structure = dense("llama")
    layers = cut_to(structure, CUT)
    tokens = random_tokens(batch=1, length=8)
    prompt = tokens[0].tolist()
    expected: list[int] = []
    for _ in range(4):
        tokens_so_far = random_tokens(1, 1).new_tensor([prompt + expected])
        expected.append(int(run_layers(structure, layers, tokens_so_far)[0, -1].argmax()))
    with served(path, threads=1, cache_type="F32") as model:
        assert model.greedy(prompt, 4) == expected


def test_a_cache_of_float16_is_what_is_served(path: Path) -> None:
    tokens = random_tokens().numpy()
    with served(path, threads=1, cache_type="F32") as exact, served(path, threads=1) as usual:
        gap = np.abs(exact.logits(tokens) - usual.logits(tokens)).max()
    assert 1e-6 < gap < 1e-2


def test_a_request_is_timed_as_a_batch_side_by_side(path: Path) -> None:
    with served(path, threads=1) as model:
        for batch in (1, 3):
            workload = Workload(batch_size=batch, prompt_tokens=8, new_tokens=3)
            latency = model.time(workload)
            assert latency.prefill_ms > 0
            assert latency.decode_ms > 0
        none = model.time(Workload(prompt_tokens=8, new_tokens=0))
        assert none.decode_ms < none.prefill_ms
        with pytest.raises(
            TargetError, match="at most 256 sequences side by side, got a batch of"
        ):
            model.time(Workload(batch_size=257))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF and no more")
    for each in (path, tmp_path / "missing.gguf"):
        with (
            pytest.raises(VerificationError, match=f"refuses `{each.name}`"),
            served(each, threads=1),
        ):
            pass
    with pytest.raises(TargetError, match="refuses type 7"):
        quantize(path, tmp_path / "out.gguf", 7, threads=1)


def test_a_runtime_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cyllama.llama.llama_cpp", None)
    llama_cpp.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"`cyllama`.*compression-planner\[gguf\]"):
            llama_cpp()
    finally:
        llama_cpp.cache_clear()


def test_serving_loads_no_torch_and_says_nothing(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from planner.targets.gguf.gguf_runtime import "
        f"served\nwith served(Path({str(path)!r}), threads=1) as model: model.greedy([5], 2)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
