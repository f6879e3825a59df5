"""What a GGUF file says of its model and transformers' reader leaves out: kept, or refused."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING

from search_spaces.errors import ModelError, quoted
from search_spaces.models.fingerprint import lasting
from search_spaces.models.on_disk.gguf_rope import ROPE_TENSORS, Metadata, equal, keep_rope_

_RENAMED = {
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
    "gpt-oss": "gpt_oss",
    "minimax-m2": "minimax_m2",
}
"""Architectures that transformers calls otherwise."""
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "router_logit_softcapping": ("router_logit_softcapping",),
    "attention.sliding_window": ("sliding_window",),
    "attention.layer_norm_epsilon": ("layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps", "norm_eps"),
    "attention.clamp_kqv": ("clip_qkv",),
    "expert_weights_norm": ("norm_topk_prob",),
    "expert_weights_scale": ("routed_scaling_factor",),
    "expert_used_count": ("num_experts_per_tok",),
    "expert_group_count": ("n_group",),
    "expert_group_used_count": ("topk_group",),
    "logit_scale": ("logits_scaling", "logit_scale"),
    "residual_scale": ("residual_multiplier",),
    "embedding_scale": ("embedding_multiplier",),
    "use_parallel_residual": ("use_parallel_residual",),
}
"""Fields of a config, one of which holds what a key says."""
_SHAPES: Mapping[str, tuple[str, ...]] = {
    "attention.key_length": ("head_dim", "d_kv", "global_head_dim"),
    "attention.value_length": ("v_head_dim", "head_dim", "global_head_dim"),
    "expert_count": ("num_experts", "num_local_experts", "n_routed_experts"),
    "expert_feed_forward_length": ("moe_intermediate_size", "intermediate_size"),
    "expert_shared_feed_forward_length": ("shared_expert_intermediate_size",),
    "leading_dense_block_count": ("first_k_dense_replace",),
    "feed_forward_length": ("intermediate_size", "n_inner"),
    "context_length": ("max_position_embeddings", "n_positions"),
    "attention.key_length_swa": ("head_dim",),
    "attention.value_length_swa": ("head_dim",),
    "attention.shared_kv_layers": ("num_kv_shared_layers",),
    "embedding_length_per_layer_input": ("hidden_size_per_layer_input",),
}
"""Fields that weights were read with: they must hold what a key says already."""
_SEEN_IN_TENSORS = {
    "attention.key_length",
    "attention.value_length",
    "context_length",
    "feed_forward_length",
}
"""Of these, those that a family without such a field fixes."""
_IDLE = {"vocab_size", "pooling_type", "tensor_data_layout", "decoder_start_token_id"}


def keep_metadata_(model: PreTrainedModel, metadata: Metadata) -> None:
    """Put into a model's config what its file says and transformers left out.

    Args:
        model: As transformers made it of the file.
        metadata: Of the file.

    Raises:
        ModelError: If the config has no place for it, or tensors were left out.
    """
    config: Any = model.config
    name = _RENAMED.get(metadata.architecture, metadata.architecture)
    mapping: Mapping[str, Any] = GGUF_CONFIG_MAPPING
    read = mapping.get(name, {})
    for key in metadata.values:
        is_read = read.get(key) is not None and hasattr(config, str(read[key]))
        if not is_read and key not in _IDLE and not key.startswith("rope."):
            _keep_(config, metadata, key)
    keep_rope_(config, metadata)
    left_out = {*ROPE_TENSORS, *(("output.weight",) if config.tie_word_embeddings else ())}
    held = sum(size for name, size in metadata.tensor_sizes.items() if name not in left_out)
    used = sum(weight.numel() for weight in lasting(model).values())
    if held != used:
        raise ModelError(
            "a GGUF file must hold the tensors of its model and no others, and "
            f"{quoted(metadata.name, 40)} holds {held} numbers where transformers takes {used}; "
            "give the HuggingFace folder that it was made from"
        )


def _keep_(config: Any, metadata: Metadata, key: str) -> None:
    value = metadata.values[key]
    fields = [
        name for name in (*_FIELDS.get(key, ()), *_SHAPES.get(key, ())) if hasattr(config, name)
    ]
    if any(equal(getattr(config, field), value) for field in fields):
        return
    if not fields and key in _SEEN_IN_TENSORS:
        return
    if fields and key in _FIELDS:
        is_off = value == 0 and not isinstance(value, bool)
        setattr(config, fields[0], None if is_off else value)
    elif key == "attention.scale" and hasattr(config, "query_pre_attn_scalar"):
        config.query_pre_attn_scalar = value**-2
    elif key == "attention.sliding_window_pattern":
        if not _slides_so(config, value):
            raise metadata.own_refusal(key)
    elif value and not (key == "attention.causal" and value is True):
        raise metadata.own_refusal(key)


def _slides_so(config: Any, pattern: int | list[bool]) -> bool:
    """Return whether the layers with a sliding window are those of a pattern."""
    slides = [kind == "sliding_attention" for kind in getattr(config, "layer_types", None) or ()]
    if isinstance(pattern, int):
        return slides == [bool(pattern) and (i + 1) % pattern != 0 for i in range(len(slides))]
    return slides == [bool(each) for each in pattern]
