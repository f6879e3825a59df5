"""A folder as vLLM serves it."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from vllm import LLM, SamplingParams

from evaluators.latency.workload import Latency, Workload
from planner.targets.bundled_code import runs_own_code_alone

# in this process, with as many threads as it is told, and a cache of 1 GiB
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")


@contextmanager
def serving(folder: Path, *, threads: int, dtype: str) -> Iterator["VllmServed"]:
    """Load a folder.

    Args:
        folder: Of an export, or of a dense model.
        threads: That it may compute with, on a CPU.
        dtype: To compute in, and to cache keys and values in.
    """
    torch.set_num_threads(threads)
    engine = LLM(
        str(folder),
        trust_remote_code=runs_own_code_alone(folder),
        dtype=dtype,
        enforce_eager=True,
        max_logprobs=-1,
        logprobs_mode="raw_logits",
        logits_processors=["planner.targets.deci.forced_tokens:ForcedTokens"],
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    try:
        yield VllmServed(engine)
    finally:
        engine.llm_engine.engine_core.shutdown()


class VllmServed:
    """A model as vLLM has loaded it.

    Args:
        engine: It; where it reports probabilities it gives logits.
    """

    def __init__(self, engine: LLM) -> None:
        self._engine = engine
        self._vocabulary = engine.llm_engine.model_config.get_vocab_size()

    def logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        outputs = self._run(tokens, max_tokens=1, prompt_logprobs=-1, logprobs=-1)
        return np.stack(
            [
                np.concatenate(
                    [self._rows(each.prompt_logprobs)[1:], self._rows(each.outputs[0].logprobs)]
                )
                for each in outputs
            ]
        )

    def stepped_logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        half = tokens.shape[1] // 2
        rows = []
        for sequence in tokens:
            # the last token of the prompt is the first whose logits count
            start = len(sequence) - half + 1
            (output,) = self._run(
                sequence[None, :start],
                max_tokens=half,
                logprobs=-1,
                extra_args={"forced_tokens": sequence[start:].tolist()},
            )
            rows.append(self._rows(output.outputs[0].logprobs))
        return np.stack(rows)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        (output,) = self._run(np.array([prompt]), max_tokens=count)
        return list(output.outputs[0].token_ids)

    def time(self, workload: Workload) -> Latency:
        request = workload.fitted(self._engine.llm_engine.model_config.max_model_len)
        shape = request.batch_size, request.prompt_tokens
        tokens = np.broadcast_to(np.arange(request.prompt_tokens) % self._vocabulary, shape)
        seconds = []
        for count in (1, 1 + request.new_tokens):
            start = time.perf_counter()
            self._run(tokens, max_tokens=count)
            seconds.append(time.perf_counter() - start)
        decode = (seconds[1] - seconds[0]) / max(1, request.new_tokens)
        return Latency(prefill_ms=1e3 * seconds[0], decode_ms=max(0.0, 1e3 * decode))

    def _run(self, tokens: NDArray[np.int_], **options: Any) -> Any:
        sampling = SamplingParams(
            temperature=0.0, ignore_eos=True, flat_logprobs=True, detokenize=False, **options
        )
        prompts = [{"prompt_token_ids": sequence} for sequence in tokens.tolist()]
        return self._engine.generate(prompts, sampling, use_tqdm=False)

    def _rows(self, reported: Any) -> NDArray[np.float32]:
        """Return logits ``(tokens, vocabulary)`` of what vLLM reports by falling value."""
        rows = np.full((len(reported.start_indices), self._vocabulary), np.nan, dtype=np.float32)
        values = np.array(reported.logprobs, dtype=np.float32)
        ids = np.array(reported.token_ids, dtype=np.int_)
        for row, start, end in zip(
            rows, reported.start_indices, reported.end_indices, strict=True
        ):
            row[ids[start:end]] = values[start:end]
        return rows
