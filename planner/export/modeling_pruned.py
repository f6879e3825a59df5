"""A pruned causal language model: blocks of one attention and any number of MLPs.

Written by compression-planner beside the weights that it describes. Each layer is the stock one
with narrower matrices, so that norms, rotary tables, masks and caches stay the family's own.
``config.sublayers`` lists what each block runs, in order: ``"attn"`` is an attention, a number an
MLP of that many channels, ``"attn+1024"`` both side by side on the same input. Head counts stand
in ``config.per_layer_config``, and ``config.wiring`` says which matrices shrink with them.
"""

import copy

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import LlamaConfig as StockConfig
from transformers import LlamaForCausalLM as StockForCausalLM
from transformers import LlamaModel as StockModel
from transformers.pytorch_utils import Conv1D


@strict
class PrunedConfig(StockConfig):
    """The stock config with the shape of each block."""

    model_type = "pruned_llama"
    sublayers: list | None = None
    wiring: dict | None = None

    def validate_architecture(self):
        """Hold the values that all blocks share to the stock rules."""
        _apply_stock_rule("validate_architecture", self)

    def validate_rope(self):
        """Hold the values that all blocks share to the stock rules."""
        _apply_stock_rule("validate_rope", self)


class PrunedModel(StockModel):
    """The stock model with its layers replaced by blocks."""

    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(_uniform(config))
        _build_blocks(
            self, config, config.wiring["stack"].removeprefix(self.base_model_prefix + ".")
        )


class PrunedForCausalLM(StockForCausalLM):
    """The stock language model with its layers replaced by blocks."""

    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(_uniform(config))
        _build_blocks(self, config, config.wiring["stack"])


class Block(nn.Module):
    """Layers that run one after another and share one entry of the cache."""

    def __init__(self, parts):
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, hidden_states, *args, **kwargs):
        for part in self.parts:
            output = part(hidden_states, *args, **kwargs)
            hidden_states = output[0] if isinstance(output, tuple) else output
        return output


class Dropped(nn.Module):
    """Stands where an attention or an MLP was: adds nothing."""

    def __init__(self, returns):
        super().__init__()
        self.returns = returns

    def forward(self, hidden_states, *args, **kwargs):
        zeros = torch.zeros_like(hidden_states)
        return zeros if self.returns == 1 else (zeros, *[None] * (self.returns - 1))


class LayerConfig:
    """The model's config as one attention sees it: the shared one, with its own head counts."""

    def __init__(self, shared, own):
        self.__dict__.update(own, _shared=shared)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"], name)


def _uniform(config):
    """Give the config without per-layer values, which the stock constructors refuse to read."""
    uniform = copy.copy(config)
    uniform.__dict__.pop("_heterogeneity_spec", None)
    return uniform


def _apply_stock_rule(name, config):
    rule = getattr(StockConfig, name, None)
    if rule is not None:
        rule(_uniform(config))


def _build_blocks(model, config, stack_path):
    uniform = model.config
    config._attn_implementation = uniform._attn_implementation
    for module in model.modules():
        if getattr(module, "config", None) is uniform:
            module.config = config
    stack = model.get_submodule(stack_path)
    heads = config.wiring["attention"]["heads"]
    for index, entries in enumerate(config.sublayers):
        groups = config.per_layer_config[index].num_attention_heads // heads
        shapes = _shapes(entries, groups, config.wiring["sequential"])
        # all copies share one config: a later change of the attention function reaches them
        parts = [copy.deepcopy(stack[index], {id(config): config}) for _ in shapes]
        stack[index] = Block([_narrow(p, config, *s) for p, s in zip(parts, shapes, strict=True)])


def _shapes(entries, groups, sequential):
    """Turn a block's words into (attention groups, MLP channels) for each layer that it runs.

    Where layers are sequential, an attention and the MLP after it run as one layer.
    """
    shapes = []
    for entry in entries:
        if isinstance(entry, str):
            shapes.append((groups, int(entry.removeprefix("attn").removeprefix("+") or 0)))
        elif sequential and shapes and shapes[-1] == (groups, 0):
            shapes[-1] = (groups, entry)
        else:
            shapes.append((0, entry))
    return shapes


def _narrow(layer, config, groups, channels):
    for kind, count in (("attention", groups), ("mlp", channels)):
        wiring = config.wiring[kind]
        if count == 0:
            _drop(layer, wiring)
            continue
        for path, amount in wiring["rows"].items():
            _resize(layer, path, rows=amount * count)
        gains = config.wiring["adds_bias"] and wiring["gains_bias"] and count < wiring["units"]
        for path, amount in wiring["columns"].items():
            _resize(layer, path, columns=amount * count, gains_bias=gains)
        _follow(layer, wiring, count)
    return layer


def _drop(layer, wiring):
    for path in wiring["private"]:
        layer.set_submodule(path, nn.Identity())
    if wiring["module"]:
        layer.set_submodule(wiring["module"], Dropped(wiring["returns"]))
    else:
        for path in wiring["rows"]:
            layer.set_submodule(path, nn.Identity())
        for path in wiring["columns"]:
            layer.set_submodule(path, Dropped(1))


def _resize(layer, path, rows=None, columns=None, *, gains_bias=False):
    old = layer.get_submodule(path)
    transposed = isinstance(old, Conv1D)
    old_rows, old_columns = old.weight.shape[::-1] if transposed else old.weight.shape
    rows, columns = rows or old_rows, columns or old_columns
    options = {"device": old.weight.device, "dtype": old.weight.dtype}
    if transposed:
        new = Conv1D(rows, columns).to(**options)
    else:
        new = nn.Linear(columns, rows, bias=gains_bias or old.bias is not None, **options)
    layer.set_submodule(path, new)


def _follow(layer, wiring, count):
    """Set the integers that the attention's forward reads instead of a tensor's shape."""
    own = {name: amount * count for name, amount in wiring["attributes"].items()}
    module = layer.get_submodule(wiring["module"])
    shared = {name.removeprefix("config."): own[name] for name in own if "." in name}
    if shared:
        module.config = LayerConfig(module.config, shared)
    for name in own.keys() - {f"config.{name}" for name in shared}:
        setattr(module, name, own[name])
