"""The file that onnxruntime-genai reads beside a graph, and the tokenizer's files."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from planner.targets.onnx.dense_probe import CacheShape
from planner.targets.onnx.onnx_runtime import MODEL_FILE
from search_spaces.structure.backbone import position_count

CONFIG_FILE = "genai_config.json"
_LONGEST = 2048
"""Tokens of a request to a model that sets no limit."""


def write_genai_config(
    folder: Path, model: PreTrainedModel, layer_count: int, caches: list[CacheShape]
) -> None:
    """Write down what onnxruntime-genai must know of a graph.

    It finds in the graph which layers have keys and values, and of how many heads, so the largest
    are named.

    Args:
        folder: Where.
        model: The dense one.
        layer_count: Of the graph.
        caches: Of its layers that have an attention.
    """
    config: Any = model.config.get_text_config()
    context = position_count(model) or _LONGEST
    inputs = ("input_ids", "attention_mask", "position_ids")
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": MODEL_FILE,
        "head_size": max(cache.key_features for cache in caches),
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": layer_count,
        "num_key_value_heads": max(cache.heads for cache in caches),
        "inputs": {
            **{name: name for name in inputs},
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    description = {
        "model": {
            "type": "llama",  # any language model that has a decoder alone
            "context_length": context,
            "vocab_size": config.vocab_size,
            **_special_tokens(model),
            "decoder": decoder,
        },
        "search": {
            "do_sample": False,
            "max_length": context,
            "past_present_share_buffer": False,  # its graph joins old and new keys itself
        },
    }
    text = json.dumps(description, indent=2) + "\n"
    (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def _special_tokens(model: PreTrainedModel) -> dict[str, Any]:
    """Return the numbers of special tokens, as the model's generation uses them."""
    sources: list[Any] = [model.generation_config, model.config.get_text_config()]
    tokens: dict[str, Any] = {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        found = [getattr(source, name, None) for source in sources]
        tokens[name] = next((each for each in found if each is not None), None)
    last = tokens["eos_token_id"]
    first_end = last[0] if isinstance(last, list) else last
    if tokens["pad_token_id"] is None:
        tokens["pad_token_id"] = first_end
    return {name: token for name, token in tokens.items() if token is not None}
