"""GGUF files in llama.cpp: logits, greedy tokens, and how long a request takes.

This module imports neither torch nor transformers, so that a process that serves starts fast.
"""

import functools
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.latency.workload import Latency, Workload
from search_spaces.errors import MissingExtraError, TargetError, VerificationError, quoted

_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 8}
"""Numbers in ``ggml.h`` of those that keys and values may be kept in."""
_PREFILLS = 3
"""In a timed request, of which the median is taken."""
_LEAST_CONTEXT = 32
_MOST_SEQUENCES = 256
"""Of llama.cpp, ``LLAMA_MAX_SEQ``."""


@functools.cache
def llama_cpp() -> Any:
    """Return the module that runs llama.cpp, silent.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        library = import_module("cyllama.llama.llama_cpp")
    except ImportError as error:
        raise MissingExtraError("cyllama", "gguf", "running a GGUF file in llama.cpp") from error
    library.disable_logging()
    return library


class LlamaCpp:
    """A model that llama.cpp has loaded, on the processor.

    Args:
        path: The file.
        threads: That it computes with.
        cache_type: In which it keeps keys and values; with F32 it attends in float32 too.
    """

    def __init__(self, path: Path, *, threads: int, cache_type: str = "F16") -> None:
        self._threads = threads
        self._cache_type = cache_type
        self._model = _load(path)

    def logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        """Return the logits ``(batch, tokens, vocabulary)`` of token ids ``(batch, tokens)``."""
        context = self._context(1, tokens.shape[1])
        rows = []
        for sequence in tokens.tolist():
            context.clear()
            context.read([sequence], every=True)
            rows.append(context.rows(len(sequence)))
        return np.stack(rows)

    def stepped_logits(self, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
        """Return the same of the second half of the tokens, read one by one with the cache."""
        half = tokens.shape[1] // 2
        context = self._context(1, tokens.shape[1])
        rows = []
        for sequence in tokens.tolist():
            context.clear()
            context.read([sequence[:half]])
            for token in sequence[half:]:
                context.read([[token]])
                rows.append(context.rows(1))
        return np.concatenate(rows).reshape(len(tokens), tokens.shape[1] - half, -1)

    def greedy(self, prompt: Sequence[int], count: int) -> list[int]:
        """Return the tokens that it writes after a prompt, the most probable each time."""
        context = self._context(1, len(prompt) + count)
        context.read([prompt])
        written: list[int] = []
        for _ in range(count):
            written += context.next_tokens()
            context.read([written[-1:]])
        return written

    def time(self, workload: Workload) -> Latency:
        """Time one request, once; who compares models takes turns and medians.

        The sequences of a batch are read, and then written, side by side.

        Raises:
            TargetError: If there are more of them than llama.cpp runs side by side.
        """
        if workload.batch_size > _MOST_SEQUENCES:
            raise TargetError(
                f"llama.cpp runs at most {_MOST_SEQUENCES} sequences side by side, got a batch of "
                f"{workload.batch_size}; set a smaller `--batch_size`"
            )
        context = self._context(workload.batch_size, workload.prompt_tokens + workload.new_tokens)
        words = self._model.n_vocab
        prompt = [[i % words for i in range(workload.prompt_tokens)]] * workload.batch_size
        prefills = []
        for _ in range(_PREFILLS):
            context.clear()
            start = time.perf_counter()
            context.read(prompt)
            context.next_tokens()
            prefills.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(workload.new_tokens):
            context.read([[token] for token in context.next_tokens()])
        decode = time.perf_counter() - start
        return Latency(
            prefill_ms=1e3 * statistics.median(prefills),
            decode_ms=1e3 * decode / max(1, workload.new_tokens),
        )

    def close(self) -> None:
        """Free the model."""
        self._model.close()

    def _context(self, sequences: int, length: int) -> "_Context":
        return _Context(self._model, sequences, length, self._threads, self._cache_type)


class _Context:
    """Sequences that a model reads side by side, with their cache."""

    def __init__(
        self, model: Any, sequences: int, length: int, threads: int, cache_type: str
    ) -> None:
        library = llama_cpp()
        params = library.LlamaContextParams()
        params.n_ctx = sequences * max(length, _LEAST_CONTEXT)
        params.n_batch = params.n_ctx
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = _TYPES[cache_type]
        if cache_type != "F16":
            # which has its own roundings, and alone reads values of fewer bits
            params.flash_attn_type = int(cache_type != "F32")
        self._context = library.LlamaContext(model, params, verbose=False)
        self._batch = library.LlamaBatch(n_tokens=params.n_batch, embd=0, n_seq_max=1)
        self._sampler = library.LlamaSampler(library.LlamaSamplerChainParams())
        self._sampler.add_greedy()
        self._lengths = [0] * sequences
        self._last: list[int] = []

    def clear(self) -> None:
        """Forget all that was read."""
        self._context.kv_cache_clear(False)  # noqa: FBT003  (its only argument: erase it too)
        self._lengths = [0] * len(self._lengths)

    def read(self, tokens: Sequence[Sequence[int]], *, every: bool = False) -> None:
        """Read on in each sequence.

        Args:
            tokens: Of each sequence, as many of one as of the others.
            every: Whether each token is to have logits, and not only the last of each sequence.
        """
        self._batch.clear()
        self._last, count = [], 0
        for number, sequence in enumerate(tokens):
            for i, token in enumerate(sequence, start=1):
                is_last = i == len(sequence)
                position = self._lengths[number]
                self._batch.add(token, position, [number], every or is_last)
                self._lengths[number] += 1
                count += 1
            self._last.append(count - 1)
        self._context.decode(self._batch)

    def rows(self, count: int) -> NDArray[np.float32]:
        """Return the logits ``(count, vocabulary)`` of the first tokens read last."""
        return np.array([self._context.get_logits_ith(i) for i in range(count)], np.float32)

    def next_tokens(self) -> list[int]:
        """Return the most probable token after each sequence."""
        return [self._sampler.sample(self._context, last) for last in self._last]


def _load(path: Path) -> Any:
    """Load a file.

    Raises:
        VerificationError: If llama.cpp does not take it.
    """
    library = llama_cpp()

    class Model(library.LlamaModel):  # type: ignore[misc,name-defined]
        """A model that says how many tokens it knows, which reading logits asks for."""

        @property
        def n_vocab(self) -> int:
            return int(self.get_vocab().n_vocab)

    params = library.LlamaModelParams()
    params.n_gpu_layers = 0
    try:
        return Model(str(path), params, verbose=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise VerificationError(
            f"llama.cpp must load what was written for it, and refuses {quoted(path.name)}; "
            "please report this model"
        ) from error


@contextmanager
def served(path: Path, *, threads: int, cache_type: str = "F16") -> Iterator[LlamaCpp]:
    """Load a file for as long as it is needed.

    Args:
        path: The file.
        threads: That llama.cpp computes with.
        cache_type: As `LlamaCpp` says.
    """
    model = LlamaCpp(path, threads=threads, cache_type=cache_type)
    try:
        yield model
    finally:
        model.close()


def tokenize(path: Path, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens that llama.cpp makes of texts, with those that it adds.

    Args:
        path: A file; of a vocabulary alone, cyllama aborts.
        texts: In which special tokens are themselves.

    Raises:
        VerificationError: If llama.cpp does not take the file.
    """
    model = _load(path)
    vocabulary = model.get_vocab()
    tokens = [
        list(vocabulary.tokenize(text, add_special=True, parse_special=True)) for text in texts
    ]
    model.close()
    return tokens


def quantize(source: Path, target: Path, file_type: int, *, threads: int) -> None:
    """Write a file's matrices in another type of numbers, by llama.cpp's own quantiser.

    Args:
        source: A file of F32, F16 or BF16.
        target: What to write.
        file_type: Number of the type in ``llama.h``.
        threads: That it computes with.
    """
    library = llama_cpp()
    params = library.LlamaModelQuantizeParams()
    params.ftype, params.nthread = file_type, threads
    try:
        library.model_quantize(str(source), str(target), params)
    except RuntimeError as error:
        raise TargetError(
            f"llama.cpp must be able to write numbers of the wanted type, and refuses type "
            f"{file_type} for this model; choose another `--gguf_type`"
        ) from error
