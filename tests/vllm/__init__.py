"""Exports in vLLM, by ``make test-vllm``."""

WRITTEN = 32
"""Tokens that vLLM must write as torch does."""
