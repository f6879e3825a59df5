"""A pruned causal language model as DeciLM (Nemotron-NAS), a family that vLLM runs itself.

Written by compression-planner next to the weights that it loads. vLLM takes the config class from
here and nothing else; the model is for transformers, which has none of this family.
``config.block_configs`` lists for each layer whether its attention and its MLP are there, and how
wide the MLP is. ``config.qkv_bias`` is for vLLM: which biases there are the stock class knows.
"""

import copy

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import LlamaConfig as StockConfig
from transformers import LlamaForCausalLM as StockForCausalLM
from transformers import LlamaModel as StockModel


class Entry(dict):
    """A mapping whose values are attributes too: as such vLLM reads them."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@strict
class DeciLMConfig(StockConfig):
    """The stock config with what each layer is made of."""

    model_type = "nemotron-nas"
    block_configs: list | None = None
    attention_bias: bool = False
    qkv_bias: bool = False

    def __post_init__(self, **kwargs):
        self.block_configs = [
            Entry({part: Entry(values) for part, values in block.items()})
            for block in self.block_configs or ()
        ]
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """Accept any number of heads, for ``head_dim`` says how wide they are."""


class DeciLMModel(StockModel):
    """The stock model with its layers as narrow as they are kept."""

    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        _cut(self.layers, config)


class DeciLMForCausalLM(StockForCausalLM):
    """The stock language model with its layers as narrow as they are kept."""

    config_class = DeciLMConfig

    def __init__(self, config):
        super().__init__(config)
        _cut(self.model.layers, config)


class Dropped(nn.Module):
    """Replaces a dropped attention or MLP: adds nothing."""

    def __init__(self, returns):
        super().__init__()
        self.returns = returns

    def forward(self, hidden_states, *args, **kwargs):
        zeros = torch.zeros_like(hidden_states)
        return zeros if self.returns == 1 else (zeros, None)


def _cut(layers, config):
    for layer, block in zip(layers, config.block_configs, strict=True):
        if block.attention.no_op:
            layer.input_layernorm, layer.self_attn = nn.Identity(), Dropped(2)
        if block.ffn.no_op:
            layer.post_attention_layernorm, layer.mlp = nn.Identity(), Dropped(1)
        else:
            narrow = copy.copy(config)
            narrow.intermediate_size = block.ffn.intermediate_size
            layer.mlp = type(layer.mlp)(narrow)
