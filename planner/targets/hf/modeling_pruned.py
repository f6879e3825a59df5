"""A pruned causal language model: blocks of one attention and any number of MLPs or experts.

Written by compression-planner next to the weights that it loads. Each layer is the stock one with
narrower matrices, so that norms, rotary tables, masks and caches stay the family's own.
``config.sublayers`` lists what each block runs, in order: ``"attn"`` is an attention, a number an
MLP of that many channels, ``"attn+1024"`` both side by side in one layer. A mixture of experts is
a mapping: number of ``experts``, ``channels`` of each, ``top_k`` that run for a token, channels of
the ``shared`` expert if there is one, and ``attn`` if an attention runs in the same layer.
``config.sources`` lists for each the layer of the dense model that it came from, whose number and
depth its maths keeps, ``config.added_biases`` which of its components have a bias that it has not,
and ``config.idle`` which of its norms are left out. ``config.groups`` lists how many key-value
groups each block's attention has (the head counts that follow are in ``config.per_layer_config``),
and ``config.wiring`` which tensors shrink with them.
"""

import copy
import functools
import sys

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
    sources: list | None = None
    groups: list | None = None
    added_biases: list | None = None
    idle: list | None = None
    wiring: dict | None = None

    def __getattribute__(self, key):
        """Answer what differs by layer with the dense model's value, not with an error."""
        stock_names = object.__getattribute__(self, "attribute_map")
        return object.__getattribute__(self, stock_names.get(key, key))

    def to_dict(self):
        """Add the common names of what ``per_layer_config`` is about: others read it by these."""
        names = ("num_hidden_layers", "num_attention_heads")
        return super().to_dict() | {name: getattr(self, name) for name in names}

    # the values that all blocks share are checked by the stock rules
    def validate_architecture(self):
        _apply_stock_rule("validate_architecture", self)

    def validate_rope(self):
        _apply_stock_rule("validate_rope", self)


class PrunedModel(StockModel):
    """The stock model with its layers replaced by blocks."""

    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(_dense(config))
        _build_blocks(
            self, config, config.wiring["stack"].removeprefix(self.base_model_prefix + ".")
        )


class PrunedForCausalLM(StockForCausalLM):
    """The stock language model with its layers replaced by blocks."""

    config_class = PrunedConfig

    def __init__(self, config):
        super().__init__(_dense(config))
        _build_blocks(self, config, config.wiring["stack"])


class Block(nn.Module):
    """Layers that run one after another and share one entry of the cache."""

    def __init__(self, parts, lead):
        super().__init__()
        for index, part in enumerate(parts):
            # vLLM takes the one whole number in a path for that of the layer
            self.add_module(f"part_{index}", part)
        self.lead = f"part_{lead}"

    def __getattr__(self, name):
        """Answer what a decoder asks of a layer, such as its type, as the attention's does."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name in ("lead", "_modules") or name.startswith("__"):
                raise
            return getattr(self._modules[self.lead], name)

    def forward(self, hidden_states, *args, **kwargs):
        for part in self.children():
            output = part(hidden_states, *args, **kwargs)
            hidden_states = output[0] if isinstance(output, tuple) else output
        return output


def _keep_a_state_for_each_block(ends, _decoder, _args, output):
    """Leave out the hidden states inside blocks: transformers records one for each part."""

    def kept(value):  # other tuples, such as attentions, have fewer entries
        is_states = isinstance(value, tuple) and len(value) == ends[-1] + 1
        return tuple(value[end] for end in ends) if is_states else value

    if isinstance(output, tuple):
        return tuple(map(kept, output))
    return type(output)(**{name: kept(value) for name, value in output.items()})


def _router_loss(stock_loss, gate_logits, num_experts=None, top_k=2, attention_mask=None):
    """Return the mean of the stock loss over layers, of which each may have its own experts."""
    counts = [logits.shape[-1] for logits in gate_logits or ()]
    if counts == [num_experts] * len(counts) and counts:
        return stock_loss(gate_logits, num_experts, top_k, attention_mask)
    pairs = zip(gate_logits or (), counts, strict=True)
    losses = [stock_loss((x,), count, min(top_k, count), attention_mask) for x, count in pairs]
    return torch.stack(losses).mean() if losses else torch.zeros(())


_stock = sys.modules[StockForCausalLM.__module__]
_stock_loss = getattr(_stock, "load_balancing_loss_func", None)  # its forward looks up this name
if _stock_loss and not isinstance(_stock_loss, functools.partial):  # of an export loaded before
    _stock.load_balancing_loss_func = functools.partial(_router_loss, _stock_loss)


class Dropped(nn.Module):
    """Replaces a dropped attention, MLP or mixture of experts: adds nothing."""

    def __init__(self, returns):
        super().__init__()
        self.returns = returns

    def forward(self, hidden_states, *args, **kwargs):
        zeros = torch.zeros_like(hidden_states)
        return zeros if self.returns == 1 else (zeros, *[None] * (self.returns - 1))


class Unrouted(nn.Module):
    """Replaces the router of dropped experts: chooses none."""

    def forward(self, hidden_states):
        return None, None, None


class LayerConfig:
    """The model's config as one attention sees it: the shared one, with its own head counts."""

    def __init__(self, shared, overrides):
        self.__dict__.update(overrides, _shared=shared)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.__dict__["_shared"], name)


def _uniform(config):
    """Return the config without per-layer values, which the stock constructors refuse."""
    uniform = copy.copy(config)
    uniform.__dict__.pop("_heterogeneity_spec", None)
    return uniform


def _dense(config):
    """Return the config of the dense model, whose layers the parts of blocks are copied from."""
    dense = _uniform(config)
    for name, value in config.wiring["dense"].items():
        setattr(dense, name, value)
    return dense


def _apply_stock_rule(name, config):
    getattr(StockConfig, name, lambda _: None)(_uniform(config))


def _build_blocks(model, config, stack_path):
    dense = model.config
    config._attn_implementation = dense._attn_implementation
    config._experts_implementation = dense._experts_implementation
    for module in model.modules():
        if getattr(module, "config", None) is dense:
            module.config = config
    stack = model.get_submodule(stack_path)
    layers = list(stack)
    blocks, ends = [], [0]
    for index, shapes in enumerate(part_shapes(config)):
        parts = [_part(layers, config, index, shape) for shape in shapes]
        has_attention = [bool(shape[1]) for shape in shapes]
        blocks.append(Block(parts, has_attention.index(True) if any(has_attention) else 0))
        ends.append(ends[-1] + len(parts))
    del stack[len(blocks) :]
    for index, block in enumerate(blocks):
        stack[index] = block
    decoder = model.get_submodule(stack_path.rpartition(".")[0])
    decoder.register_forward_hook(functools.partial(_keep_a_state_for_each_block, ends))


def part_shapes(config):
    """Return the shape of each layer of each block: what `_part` makes it from."""
    lists = (config.sublayers, config.sources, config.groups, config.added_biases, config.idle)
    return [_shapes(*of_block, config.wiring) for of_block in zip(*lists, strict=True)]


def _shapes(entries, sources, groups, added_biases, idle, wiring):
    """Turn a block's words into the shapes of its layers.

    Each is a dense layer, attention groups, the word of the rest, added biases and idle norms.
    If layers are sequential, an attention and the MLP after it run as one layer, as long as the
    dense layers that they are from are of one kind.
    """
    kind_of = wiring["kind_of"]
    shapes = []
    for entry, source, *rest in zip(entries, sources, added_biases, idle, strict=True):
        previous = shapes[-1] if wiring["sequential"] and shapes else (0, 0, 1, [], [])
        if isinstance(entry, str):
            word = entry.removeprefix("attn").removeprefix("+")
            shapes.append((source, groups, int(word or 0), *rest))
        elif isinstance(entry, dict) and entry.get("attn"):
            shapes.append((source, groups, entry, *rest))
        elif previous[1] and not previous[2] and kind_of[previous[0]] == kind_of[source]:
            both = [
                [*of_first, *of_rest] for of_first, of_rest in zip(previous[3:], rest, strict=True)
            ]
            shapes[-1] = (previous[0], groups, entry, *both)
        else:
            shapes.append((source, 0, entry, *rest))
    return shapes


def _part(dense, config, index, shape):
    """Make one layer of a block from a layer of the dense model."""
    source, groups, word, biases, idle = shape
    # all copies share one config: a later change of the attention function reaches them
    layer = copy.deepcopy(dense[source], {id(config): config})
    for module in layer.modules():
        if isinstance(getattr(module, "layer_idx", None), int):
            module.layer_idx = index  # its place in the cache
    counts = word if isinstance(word, dict) else {"mlp": word}
    wiring = config.wiring["kinds"][config.wiring["kind_of"][source]]
    for kind, component in wiring.items():
        count = groups if kind == "attention" else counts.get(kind, 0)
        if count == 0:
            _drop(layer, component)
        elif kind == "experts":
            _narrow_experts(layer, component, word)
        else:
            _narrow(layer, component, count, gains_bias=kind in biases)
    router = wiring.get("experts", {}).get("router")
    for path in idle:
        layer.set_submodule(path, Unrouted() if path == router else nn.Identity())
    return layer


def _narrow(layer, wiring, count, *, gains_bias):
    for path, amount in wiring["rows"].items():
        _resize(layer, path, rows=amount * count)
    for path, amount in wiring["columns"].items():
        _resize(layer, path, columns=amount * count, gains_bias=gains_bias)
    _set_attributes(layer, wiring, count)


def _narrow_experts(layer, wiring, word):
    for stack in wiring["stacks"]:
        sizes = {0: word["experts"]}
        if stack["axis"] is not None:
            sizes[stack["axis"]] = stack["features"] * word["channels"]
        _reshape(layer, stack["path"], sizes)
    for path in wiring["router_rows"]:
        _reshape(layer, path, {0: word["experts"]})
    for name, count in (("count_attributes", "experts"), ("top_k_attributes", "top_k")):
        for path, attribute in wiring[name]:
            setattr(layer.get_submodule(path), attribute, word[count])


def _reshape(layer, path, sizes):
    """Resize a parameter or buffer along some axes."""
    owner, _, name = path.rpartition(".")
    module = layer.get_submodule(owner)
    old = getattr(module, name)
    new = old.new_zeros([sizes.get(axis, size) for axis, size in enumerate(old.shape)])
    setattr(module, name, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)


def _drop(layer, wiring):
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


def _set_attributes(layer, wiring, count):
    """Set the integers that the attention's forward reads instead of a tensor's shape."""
    values = {name: amount * count for name, amount in wiring["attributes"].items()}
    module = layer.get_submodule(wiring["module"])
    of_config = {name.removeprefix("config."): values[name] for name in values if "." in name}
    if of_config:
        module.config = LayerConfig(module.config, of_config)
    for name in values.keys() - {f"config.{name}" for name in of_config}:
        setattr(module, name, values[name])
