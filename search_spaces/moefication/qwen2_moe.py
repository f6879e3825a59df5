"""Split MLPs in a stock checkpoint: the weights and the config of a Qwen2-MoE.

Of the stock mixtures of experts, Qwen2-MoE is the one whose attention is that of Llama, Mistral
and Qwen2 (query, key and value biases as the config says, none on the output), and whose shared
expert is an ordinary MLP. Two of its features are neutralised, without rounding:

- The shared expert's output is multiplied by a gate, the sigmoid of a linear map. With zero
  weights the gate is 1/2, and so the shared down projection is doubled.
- Experts are weighted by the softmax of the router, not renormalised over the chosen ones
  (``norm_topk_prob`` false). If the router is scaled down by a power of two, its softmax is
  1 / experts up to `UNEVENNESS`, and so the experts' down projections are multiplied by their
  number, a power of two. Scaling keeps the order of the logits and so the choice of experts. As no
  weight depends on how many are chosen, fewer active experts leave the others' outputs unchanged.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen2MoeConfig, Qwen2MoeForCausalLM

from search_spaces.errors import StructureError
from search_spaces.moefication.gated_mlp import GatedMlp
from search_spaces.moefication.split import Shape, Split

MLP = "mlp"
"""Path of the MLP inside a layer of the families that can be split."""
FAMILIES = ("llama", "mistral", "qwen2")
UNEVENNESS = 2.0**-11
"""Largest logit of a scaled router, and so the relative difference of the routing weights."""
_COMMON = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_parameters",
    "use_cache",
    "vocab_size",
)


def check_splittable(model: PreTrainedModel) -> None:
    """Refuse a dense model that a Qwen2-MoE cannot hold exactly.

    Raises:
        StructureError: If its family is another, or it has biases that Qwen2-MoE lacks.
    """
    config = model.config
    if config.model_type not in FAMILIES:
        raise StructureError(
            f"a model to split must be one of {', '.join(FAMILIES)}, whose attention and norms a "
            f"stock mixture of experts can hold, got {config.model_type}; split another model"
        )
    biased = [
        name
        for name, _ in model.named_parameters()
        if name.endswith(
            ("o_proj.bias", "mlp.gate_proj.bias", "mlp.up_proj.bias", "down_proj.bias")
        )
    ]
    if biased:
        raise StructureError(
            "a model to split must have no biases but those of queries, keys and values, for "
            f"stock mixtures of experts have no others, got `{biased[0]}`; split another model"
        )


def gated_mlp(layer: nn.Module) -> GatedMlp:
    """Return the MLP of a layer of one of `FAMILIES`."""
    mlp: Any = layer.get_submodule(MLP)
    return GatedMlp(
        gate=mlp.gate_proj.weight.detach(),
        up=mlp.up_proj.weight.detach(),
        down=mlp.down_proj.weight.detach(),
        activation=mlp.act_fn,
    )


def scaled_router(router: Tensor, inputs: Tensor) -> Tensor:
    """Return a router scaled by a power of two so that its softmax is nearly uniform.

    Args:
        router: ``(experts, hidden)``.
        inputs: Its inputs, ``(tokens, hidden)``.

    Returns:
        The router whose largest logit on these inputs is at most `UNEVENNESS`.
    """
    largest = float((inputs.float() @ router.T).abs().max())
    if not largest:
        return router
    return router * 2.0 ** math.floor(math.log2(UNEVENNESS / largest))


def mixture_weights(mlp: GatedMlp, split: Split, router: Tensor) -> dict[str, Tensor]:
    """Return the weights of a layer's mixture of experts, named as Qwen2-MoE holds them in memory.

    Args:
        mlp: The dense MLP.
        split: Of its channels.
        router: As `scaled_router` returns it.

    Returns:
        Weights by path inside the layer, in the dtype of the dense ones.
    """
    experts, shared = torch.from_numpy(split.experts), torch.from_numpy(split.shared)
    count = len(experts)
    routed = torch.cat([mlp.gate[experts], mlp.up[experts]], dim=1)
    down = mlp.down[:, experts].transpose(0, 1)  # (experts, hidden, channels)
    return {
        "mlp.gate.weight": router.to(mlp.gate),
        "mlp.experts.gate_up_proj": routed,  # (experts, 2 · channels, hidden)
        "mlp.experts.down_proj": (down * count).contiguous(),
        "mlp.shared_expert.gate_proj.weight": mlp.gate[shared],
        "mlp.shared_expert.up_proj.weight": mlp.up[shared],
        "mlp.shared_expert.down_proj.weight": mlp.down[:, shared] * 2,
        "mlp.shared_expert_gate.weight": mlp.gate.new_zeros(1, mlp.gate.shape[1]),
    }


def mixture_config(model: PreTrainedModel, shape: Shape, active: int) -> Qwen2MoeConfig:
    """Return the config of the split model.

    Args:
        model: A dense model of one of `FAMILIES`.
        shape: Of each layer's split.
        active: Experts that run for a token.
    """
    dense = model.config
    common = {name: getattr(dense, name) for name in _COMMON if hasattr(dense, name)}
    heads = dense.num_attention_heads
    window = getattr(dense, "sliding_window", None)
    types = getattr(dense, "layer_types", None)
    if types is None:
        kind = "sliding_attention" if window else "full_attention"
        types = [kind] * dense.num_hidden_layers
    # typed as any, for the class accepts names that it does not declare, such as `head_dim`
    make: Any = Qwen2MoeConfig
    config: Qwen2MoeConfig = make(
        **{**common, "layer_types": types},
        # a checkpoint may hold a head of its own, whatever its config says
        tie_word_embeddings=_is_tied(model),
        head_dim=getattr(dense, "head_dim", None) or dense.hidden_size // heads,
        sliding_window=window,
        use_sliding_window="sliding_attention" in types,
        # what version 4 of transformers reads in the place of `layer_types`
        max_window_layers=[*types, "sliding_attention"].index("sliding_attention"),
        qkv_bias=dense.model_type == "qwen2" or bool(getattr(dense, "attention_bias", False)),
        num_experts=shape.experts,
        num_experts_per_tok=active,
        moe_intermediate_size=shape.channels,
        shared_expert_intermediate_size=shape.shared,
        norm_topk_prob=False,
        decoder_sparse_step=1,
    )
    return config


def _is_tied(model: PreTrainedModel) -> bool:
    typed: Any = model
    embedding, head = typed.get_input_embeddings(), typed.get_output_embeddings()
    return head is not None and head.weight is embedding.weight


def mixture_model(
    dense: PreTrainedModel, config: Qwen2MoeConfig, mixtures: Sequence[Mapping[str, Tensor]]
) -> Qwen2MoeForCausalLM:
    """Return the split model, which shares with the dense one all weights but those of the MLPs.

    Args:
        dense: Of one of `FAMILIES`.
        config: As `mixture_config` returns it.
        mixtures: Weights of each layer, as `mixture_weights` returns them.
    """
    weights = {
        name: weight for name, weight in dense.state_dict().items() if f".{MLP}." not in name
    }
    for index, mixture in enumerate(mixtures):
        weights |= {f"model.layers.{index}.{path}": weight for path, weight in mixture.items()}
    with torch.device("meta"):
        model = Qwen2MoeForCausalLM(config)
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.requires_grad_(requires_grad=False).train(mode=False)
    return model
