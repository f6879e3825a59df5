"""Writing a cut model as a HuggingFace folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from planner.targets.bundled_code import PRUNED
from planner.targets.cut_layers import CutLayers, cut_layers
from planner.targets.hf.belongings import carry
from planner.targets.hf.config import pruned_config
from planner.targets.hf.layout import Part, arrange, describe_experts
from planner.targets.hf.native import refused_by_vllm
from planner.targets.hf.pack_quantized import (
    packed_matrices,
    packed_tensors,
    quantization_config,
    stock_integers,
)
from planner.targets.hf.published_config import VERSION_5_15, published, spelt_for_all
from planner.targets.hf.stock import as_published, computes_alike, stock_config
from planner.targets.hf.tokenizer_files import write_tokenizer
from planner.targets.hf.wiring import Sizes, Wiring
from search_spaces.models.fingerprint import lasting
from search_spaces.models.loading import LoadedModel
from search_spaces.models.own_exports import code_digest
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.types import OrderedWeights
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure

_MIXED = "beside packed layers it takes experts to be packed, and here they are not"


@dataclass(frozen=True, kw_only=True)
class CutModel:
    """The weights of a pruned model, and a config that loads them."""

    weights: Mapping[str, Tensor]
    """By their names in memory, with persistent buffers, which are no `Parameter`."""
    dense_names: Mapping[str, str]
    """Of each of them, what the dense model calls the one that it was made from."""
    config: dict[str, Any]
    model_class: type[PreTrainedModel]
    """Of the dense model, or of what is made from it."""
    stock: PreTrainedConfig | None = None
    """With which that class loads it, without code of ours; `None`: it does not."""
    experts: str = ""
    """What is kept of its experts, in a sentence; empty if the dense model has none."""
    refused_by_vllm: str = ""
    """Why vLLM does not run our code for it; empty: it does, or needs none."""
    packed: Mapping[str, QuantizedMatrix] = field(default_factory=dict)
    """The bytes of those weights that are written as packed integers, by their names."""

    @property
    def is_stock(self) -> bool:
        """Return whether a stock class loads it, without code of ours."""
        return self.stock is not None

    @property
    def params(self) -> list[Tensor]:
        """Weights without buffers."""
        return [weight for weight in self.weights.values() if isinstance(weight, nn.Parameter)]


def cut_model(
    structure: ModelStructure, plan: Plan, weights: Sequence[OrderedWeights] = ()
) -> CutModel:
    """Cut a dense model down to a plan.

    Args:
        structure: The dense model, its units in their own order.
        plan: What to keep.
        weights: Of each component, those that are no slices of the sorted model; empty: all are
            slices.
    """
    return assembled(cut_layers(structure, plan, weights))


def assembled(cut: CutLayers) -> CutModel:
    """Put the cut layers of a model together as `transformers` has them."""
    structure, layers = cut.structure, list(cut.layers)
    wiring = Wiring.of(structure)
    sizes = kept_sizes(cut, wiring)
    dense_sizes = [
        wiring.sizes(layer, i, [component.member_count for component in layer.components])
        for i, layer in enumerate(structure.layers)
    ]
    blocks = arrange(structure, wiring, sizes)
    one_part_blocks = [[part] for block in blocks for part in block]
    stock_weights, stock_names = named_weights(structure, layers, one_part_blocks, "")
    shapes = {name: tuple(weight.shape) for name, weight in stock_weights.items()}
    is_mixed = bool(packed_matrices(cut)) and not stock_integers(structure)
    stock = None if is_mixed else stock_config(wiring, sizes, shapes)
    description = describe_experts(dense_sizes, sizes)
    model_class = wiring.model_class
    if stock is not None and computes_alike(structure, model_class, stock, stock_weights, layers):
        return CutModel(
            weights=stock_weights,
            dense_names=stock_names,
            config=stock.to_dict(),
            model_class=model_class,
            stock=stock,
            experts=description,
            packed=_packed(cut, stock_names, stock_weights),
        )
    biases = [_added_biases(structure, wiring, i, layer) for i, layer in enumerate(layers)]
    weights_of_parts, dense_names = named_weights(structure, layers, blocks, ".part_{part}")
    return CutModel(
        weights=weights_of_parts,
        dense_names=dense_names,
        config=pruned_config(wiring, sizes, blocks, layers, biases),
        model_class=model_class,
        experts=description,
        refused_by_vllm=_MIXED if is_mixed else refused_by_vllm(structure, sizes),
        packed=_packed(cut, dense_names, weights_of_parts),
    )


def _packed(
    cut: CutLayers, dense_names: Mapping[str, str], weights: Mapping[str, Tensor]
) -> dict[str, QuantizedMatrix]:
    matrices = packed_matrices(cut)
    return {
        name: matrices[dense_name]
        for name, dense_name in dense_names.items()
        # an added bias goes by the name of its matrix
        if dense_name in matrices and weights[name].ndim > 1
    }


def kept_sizes(cut: CutLayers, wiring: Wiring) -> list[Sizes]:
    """Return what each layer of a model keeps."""
    sizes = []
    for i, layer in enumerate(cut.structure.layers):
        parts = cut.of_layer(i)
        counts = [len(units) for _, units, _ in parts]
        sizes.append(wiring.sizes(layer, i, counts, [inside for _, _, inside in parts]))
    return sizes


def _added_biases(
    structure: ModelStructure, wiring: Wiring, index: int, layer: nn.Module
) -> frozenset[str]:
    """Return the kinds of component of a cut layer with a bias that the stock model lacks."""
    kind, names = wiring.kind(index), dict(layer.named_parameters())
    outputs = {
        wiring.name(index, component): component.projections[-1].path
        for component in structure.layers[index].components
        if component.projections
    }
    return frozenset(
        name
        for name, path in outputs.items()
        if kind[name]["gains_bias"] and f"{path}.bias" in names
    )


def named_weights(
    structure: ModelStructure, layers: Sequence[nn.Module], blocks: list[list[Part]], infix: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Name all weights and persistent buffers as the exported model does, tied ones once.

    Returns:
        The tensors, and their names in the dense model.
    """
    stack = structure.backbone.stack.path
    named: dict[str, Tensor] = {
        name: weight
        for name, weight in lasting(structure.backbone.model).items()
        if not name.startswith(f"{stack}.")
    }
    dense_names = {name: name for name in named}
    for index, block in enumerate(blocks):
        for position, part in enumerate(block):
            prefix = f"{stack}.{index}{infix.format(part=position)}"
            for layer in part.layers:
                held = lasting(structure.backbone.layers[layer])
                for name, weight in lasting(layers[layer]).items():
                    named[f"{prefix}.{name}"] = weight
                    # a bias that pruning adds is stored like its matrix
                    like = name if name in held else f"{name.rpartition('.')[0]}.weight"
                    path = structure.backbone.layer_paths[layer]
                    dense_names[f"{prefix}.{name}"] = f"{path}.{like}"
    return named, dense_names


@dataclass(frozen=True, kw_only=True)
class WrittenFolder:
    """What those who load a written model must know."""

    requires: str
    """Versions of transformers that read it as meant; empty: all that know its family."""
    tokenizer_needs_remote_code: bool


def write_model(
    folder: Path, pruned: CutModel, dense: LoadedModel, source: Path | None = None
) -> WrittenFolder:
    """Write weights, config, tokenizer, generation config, where needed code, and what belongs.

    Args:
        folder: An empty folder.
        pruned: What to write.
        dense: The model it was cut from.
        source: The files of that model; None: they are not at hand.
    """
    weights = as_stored(pruned, dense)
    config, requires = _config(pruned, dense, list(weights))
    if pruned.packed:
        config["quantization_config"] = quantization_config(weights, pruned.packed)
        weights = packed_tensors(weights, pruned.packed)
    save_torch_state_dict(weights, folder, metadata={"format": "pt"})
    if not pruned.is_stock:
        code = PRUNED.of_family(dense.model)
        config["wiring"] = {**config["wiring"], "code": code_digest(code)}
        (folder / PRUNED.file).write_text(code, encoding="utf-8")
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    needs_code = write_belongings(folder, dense, source)
    return WrittenFolder(requires=requires, tokenizer_needs_remote_code=needs_code)


def write_belongings(folder: Path, dense: LoadedModel, source: Path | None) -> bool:
    """Write the tokenizer, the generation config, and of the source's files such as licences.

    Returns:
        Whether loading the tokenizer takes ``trust_remote_code=True``.
    """
    needs_code = write_tokenizer(folder, dense.tokenizer)
    if dense.model.generation_config is not None:
        # as it came: `save_pretrained` refuses settings that contradict each other
        settings: Any = dense.model.generation_config
        settings.to_json_file(folder / "generation_config.json", keys_to_pop=["compile_config"])
    if source is not None:
        carry(source, folder)
    return needs_code


def _config(
    pruned: CutModel, dense: LoadedModel, weight_names: list[str]
) -> tuple[dict[str, Any], str]:
    config = published(pruned.config, weight_names)
    config["dtype"] = str(dense.stored_dtype).removeprefix("torch.")
    if pruned.stock is None:
        return {**config, "auto_map": pruned.config["auto_map"]}, VERSION_5_15
    config["architectures"] = [pruned.model_class.__name__]
    return spelt_for_all(config, type(pruned.stock))


def as_stored(pruned: CutModel, dense: LoadedModel) -> dict[str, Tensor]:
    """Return weights and buffers in the formats of the source, as files name them."""
    tensors: dict[str, Tensor] = {
        name: weight.detach().to("cpu", dense.stored.of(pruned.dense_names[name], weight))
        for name, weight in pruned.weights.items()
    }
    if pruned.stock is not None:
        tensors = as_published(tensors, pruned.model_class, pruned.stock)
    stored: dict[str, Tensor] = {}
    for name, weight in tensors.items():
        whole = weight.contiguous()
        # a single expert is a view of a stack, and safetensors writes no views
        is_view = whole.untyped_storage().nbytes() > whole.nbytes
        stored[name] = whole.clone() if is_view else whole
    return stored
