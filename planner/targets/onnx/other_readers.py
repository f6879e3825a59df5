"""Other runtimes that load what is written for onnxruntime: its genai, and OpenVINO."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.targets.onnx.onnx_runtime import MODEL_FILE
from search_spaces.errors import MissingExtraError


def genai_tokens(folder: Path, prompt: Sequence[int], count: int) -> list[int]:
    """Return the tokens that onnxruntime-genai writes after a prompt, the most probable each time.

    Args:
        folder: As `OnnxTarget.write` left it.
        prompt: Token ids.
        count: How many.

    Raises:
        MissingExtraError: If it is not installed.
    """
    library = _imported("onnxruntime_genai", "onnxruntime-genai")
    model = library.Model(str(folder))
    params = library.GeneratorParams(model)
    length = len(prompt) + count
    # no end before the last token, whatever token says so
    params.set_search_options(do_sample=False, max_length=length, min_length=length)
    generator = library.Generator(model, params)
    generator.append_tokens(np.array([prompt], np.int32))
    for _ in range(count):
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(prompt) :]]


def openvino_logits(folder: Path, tokens: NDArray[np.int_]) -> NDArray[np.float32]:
    """Return the logits ``(batch, tokens, vocabulary)`` that OpenVINO computes in float32.

    Args:
        folder: As `OnnxTarget.write` left it.
        tokens: Token ids ``(batch, tokens)``.

    Raises:
        MissingExtraError: If it is not installed.
    """
    library = _imported("openvino", "openvino")
    hints = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = library.Core().compile_model(str(folder / MODEL_FILE), "CPU", hints)
    batch, count = tokens.shape
    positions = np.tile(np.arange(count), (batch, 1))
    fed: dict[str, NDArray[Any]] = {
        "input_ids": tokens.astype(np.int64),
        "attention_mask": np.ones((batch, count), np.int64),
        "position_ids": positions.astype(np.int64),
    }
    feeds: dict[str, NDArray[Any]] = {}
    for each in compiled.inputs:
        name, shape = each.any_name, each.partial_shape
        if name in fed:
            feeds[name] = fed[name]
        else:
            heads, features = shape[1].get_length(), shape[3].get_length()
            feeds[name] = np.zeros((batch, heads, 0, features), np.float32)
    logits: NDArray[np.float32] = compiled(feeds)["logits"]
    return logits


def _imported(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(package, "onnx", "reading an ONNX file there") from error
