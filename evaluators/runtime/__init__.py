"""The device, its number formats and its memory."""

from typing import Literal

DTypeName = Literal["auto", "float32", "bfloat16", "float16"]
"""Number formats to compute in; ``auto``: the fastest one that keeps float32's range."""

RuntimeName = Literal["torch", "llama.cpp", "onnxruntime"]
"""Runtimes that latency is measured in."""
IN_FORMATS: frozenset[RuntimeName] = frozenset({"llama.cpp"})
"""Those that compute with matrices in number formats; others are given what these stand for."""
