"""Serving in onnxruntime: greedy tokens, times, and files that it refuses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evaluators.latency.workload import Workload
from planner.targets.onnx.onnx_runtime import MODEL_FILE, OnnxRuntime, onnxruntime
from search_spaces.errors import MissingExtraError, VerificationError
from tests.planner.targets.onnx.graphs import Graph

PROMPT = [5, 17, 40]


def test_greedy_tokens_are_those_of_torch(graphs: dict[str, Graph]) -> None:
    graph = graphs["all of it"]
    written = OnnxRuntime(graph.folder, threads=1).greedy(PROMPT, 32)
    assert written == graph.greedy(PROMPT, 32)


def test_a_request_takes_time(graphs: dict[str, Graph]) -> None:
    served = OnnxRuntime(graphs["widths"].folder, threads=1)
    latency = served.time(Workload(batch_size=2, prompt_tokens=8, new_tokens=3))
    assert latency.prefill_ms > 0
    assert latency.decode_ms > 0
    assert served.time(Workload(prompt_tokens=8, new_tokens=0)).decode_ms >= 0


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(b"\x08\x0anothing")
    with pytest.raises(VerificationError, match=r"refuses `model\.onnx`"):
        OnnxRuntime(tmp_path, threads=1)


def test_a_missing_runtime_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"`onnxruntime`.*compression-planner\[onnx\]"):
        onnxruntime()


def test_a_process_that_serves_loads_no_torch(graphs: dict[str, Graph]) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from planner.targets.onnx.onnx_runtime import OnnxRuntime\n"
        "OnnxRuntime(Path(sys.argv[1]), threads=1).greedy([3], 1)\n"
        "assert not {'torch', 'transformers'} & sys.modules.keys()\n"
    )
    folder = str(graphs["widths"].folder)
    subprocess.run([sys.executable, "-c", code, folder], check=True)


def test_sequences_of_a_batch_do_not_see_each_other(graphs: dict[str, Graph]) -> None:
    served = OnnxRuntime(graphs["groups"].folder, threads=1)
    first, second = np.array([[3, 4, 5, 6]]), np.array([[9, 8, 7, 6]])
    both = served.logits(np.concatenate([first, second]))
    assert np.allclose(both[:1], served.logits(first), atol=1e-5)
    assert np.allclose(both[1:], served.logits(second), atol=1e-5)
