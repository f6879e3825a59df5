"""ONNX models in onnxruntime: logits, greedy tokens, and how long a request takes.

This module imports neither torch nor transformers, so that a process that serves starts fast.
"""

import functools
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.latency.workload import Latency, Workload
from search_spaces.errors import MissingExtraError, VerificationError, quoted

MODEL_FILE = "model.onnx"
_PREFILLS = 3
"""In a timed request, of which the median is taken."""
_ERRORS_ONLY = 3
"""Severity of onnxruntime."""

Cache = Mapping[str, Any]
"""Keys and values as onnxruntime holds them, by the names of the inputs that read them."""


@functools.cache
def onnxruntime() -> Any:
    """Return the runtime.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "running an ONNX file") from error


class OnnxRuntime:
    """A model that onnxruntime has loaded, on the processor.

    What a step leaves behind is handed to the next one as it lies in memory, without a copy, as
    onnxruntime-genai does.

    Args:
        folder: In which `MODEL_FILE` lies.
        threads: That it computes with.

    Raises:
        VerificationError: If onnxruntime does not take it.
    """

    def __init__(self, folder: Path, *, threads: int) -> None:
        library = onnxruntime()
        options = library.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = _ERRORS_ONLY
        path = folder / MODEL_FILE
        try:
            self._session = library.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # its errors have no root of their own
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise VerificationError(
                f"onnxruntime must load what was written for it, and refuses {quoted(path.name)}; "
                "please report this model"
            ) from error
        self._value = library.OrtValue.ortvalue_from_numpy
        inputs = {each.name: each.shape for each in self._session.get_inputs()}
        self._past_shapes = {n: shape for n, shape in inputs.items() if n.startswith("past_")}
        self._has_positions = "position_ids" in inputs
        self._outputs = [each.name for each in self._session.get_outputs()]

    def logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        """Return the logits ``(batch, tokens, vocabulary)`` of token ids ``(batch, tokens)``."""
        logits, _ = self._read(tokens, None, 0)
        return logits

    def stepped_logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        """Return the same of the second half of the tokens, read one by one with the cache."""
        half = tokens.shape[1] // 2
        _, cache = self._read(tokens[:, :half], None, 0)
        rows = []
        for place in range(half, tokens.shape[1]):
            logits, cache = self._read(tokens[:, place : place + 1], cache, place)
            rows.append(logits)
        return np.concatenate(rows, axis=1)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the tokens that it writes after a prompt, the most probable each time."""
        tokens, cache, length = np.array([prompt]), None, 0
        written: list[int] = []
        for _ in range(count):
            logits, cache = self._read(tokens, cache, length)
            length += tokens.shape[1]
            tokens = logits[:, -1:].argmax(axis=-1)
            written.append(int(tokens[0, 0]))
        return written

    def time(self, workload: Workload) -> Latency:
        """Time one request, once; who compares models takes turns and medians."""
        prompt = np.arange(workload.prompt_tokens) % self._vocabulary()
        prompts = np.tile(prompt, (workload.batch_size, 1))
        prefills = []
        for _ in range(_PREFILLS):
            start = time.perf_counter()
            logits, cache = self._read(prompts, None, 0)
            prefills.append(time.perf_counter() - start)
        start = time.perf_counter()
        for step in range(workload.new_tokens):
            tokens = logits[:, -1:].argmax(axis=-1)
            logits, cache = self._read(tokens, cache, workload.prompt_tokens + step)
        decode = time.perf_counter() - start
        return Latency(
            prefill_ms=1e3 * statistics.median(prefills),
            decode_ms=1e3 * decode / max(1, workload.new_tokens),
        )

    def _vocabulary(self) -> int:
        (size,) = (each.shape[-1] for each in self._session.get_outputs() if each.name == "logits")
        return int(size)

    def _read(
        self, tokens: NDArray[np.int_], cache: Cache | None, length: int
    ) -> tuple[NDArray[np.float32], Cache]:
        """Read tokens behind others, and return their logits and the cache for what follows.

        Args:
            tokens: ``(batch, tokens)``
            cache: Of what was read before; None: nothing was.
            length: How many tokens that were.
        """
        batch, count = tokens.shape
        feeds = {
            "input_ids": self._integers(tokens),
            "attention_mask": self._integers(np.ones((batch, length + count))),
            **(self._empty_cache(batch) if cache is None else cache),
        }
        if self._has_positions:
            positions = np.tile(np.arange(length, length + count), (batch, 1))
            feeds["position_ids"] = self._integers(positions)
        values = self._session.run_with_ort_values(self._outputs, feeds)
        results = dict(zip(self._outputs, values, strict=True))
        logits: NDArray[np.float32] = results.pop("logits").numpy()
        return logits, {
            name.replace("present", "past_key_values"): value for name, value in results.items()
        }

    def _empty_cache(self, batch: int) -> Cache:
        return {
            name: self._value(np.zeros((batch, heads, 0, features), np.float32))
            for name, (_, heads, _, features) in self._past_shapes.items()
        }

    def _integers(self, values: NDArray[Any]) -> Any:
        return self._value(np.ascontiguousarray(values, np.int64))
