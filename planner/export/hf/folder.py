"""Writing a cut model as a HuggingFace folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import save_torch_state_dict
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedConfig

from planner.export.hf import modeling_pruned
from planner.export.hf.config import CODE_FILE, pruned_config
from planner.export.hf.layout import Part, arrange, describe_experts, feed_forward_words
from planner.export.hf.stock import as_published, stock_config
from search_spaces.models.fingerprint import lasting
from search_spaces.models.loading import LoadedModel
from search_spaces.pruned_weights.types import PrunedWeights
from search_spaces.space.block_options import UNCUT
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut

OrderedWeights = tuple[NDArray[np.int_], PrunedWeights]
"""The order of a component's units, and a level of the model sorted so."""


@dataclass(frozen=True, kw_only=True)
class CutModel:
    """The weights of a pruned model and the config that reads them."""

    weights: Mapping[str, Tensor]
    """And persistent buffers, which are no `Parameter`, by their names in memory."""
    config: dict[str, Any]
    stock: PreTrainedConfig | None = None
    """With which a stock class loads it, without code of ours; none: no such class does."""
    experts: str = ""
    """What stays of its experts, in a sentence; empty: the dense model has none."""

    @property
    def is_stock(self) -> bool:
        """Whether a stock class loads it, without code of ours."""
        return self.stock is not None

    @property
    def params(self) -> list[Tensor]:
        """Its weights without its buffers."""
        return [weight for weight in self.weights.values() if isinstance(weight, nn.Parameter)]


def cut_model(
    structure: ModelStructure, plan: Plan, levels: Sequence[OrderedWeights] = ()
) -> CutModel:
    """Cut a dense model down to a plan.

    Args:
        structure: The dense model, its units in their own order.
        plan: What to keep.
        levels: For each component its units from the last to go to the first to go, and what
            takes the place of slices of the model sorted so; none: nothing does.
    """
    components = structure.components
    kept = plan.kept_units(components)
    counts = np.array([len(units) for units in kept])
    layers, thinned = [], []
    for i, own in enumerate(structure.layers):
        span = structure.spans[i]
        thinned.append(UNCUT if own.experts is None else plan.thinned(own.experts))
        choices = list(zip(components[span], kept[span], strict=True))
        with structure.backbone.resident(i) as dense:
            layers.append(cut(dense, choices, levels[span], thinned[-1]))
    arranged = arrange(structure, counts)
    words = feed_forward_words(structure, counts, thinned)
    in_line = [[part] for component in arranged for part in component]
    plain = _weights(structure, layers, in_line, "")
    shapes = {name: tuple(weight.shape) for name, weight in plain.items()}
    stock, experts = (
        stock_config(structure, counts, words, shapes),
        describe_experts(structure, words),
    )
    if stock is not None:
        return CutModel(weights=plain, config=stock.to_dict(), stock=stock, experts=experts)
    adds_bias = _adds_bias(structure, layers)
    return CutModel(
        weights=_weights(structure, layers, arranged, ".parts.{part}"),
        config=pruned_config(structure, counts, words, arranged, adds_bias=adds_bias),
        experts=experts,
    )


def _adds_bias(structure: ModelStructure, layers: list[nn.Module]) -> bool:
    """Tell whether some cut layer has a bias that the dense one has not."""
    return any(
        name not in dict(dense.named_parameters())
        for dense, cut_layer in zip(structure.backbone.layers, layers, strict=True)
        for name, _ in cut_layer.named_parameters()
    )


def _weights(
    structure: ModelStructure, layers: list[nn.Module], components: list[list[Part]], infix: str
) -> dict[str, Tensor]:
    """Name all weights and persistent buffers as the exported model will, tied ones once."""
    stack = structure.backbone.stack_path
    named: dict[str, Tensor] = {
        name: weight
        for name, weight in lasting(structure.backbone.model).items()
        if not name.startswith(f"{stack}.")
    }
    for index, component in enumerate(components):
        for position, part in enumerate(component):
            prefix = f"{stack}.{index}{infix.format(part=position)}"
            for layer in part.layers:
                for name, weight in lasting(layers[layer]).items():
                    named[f"{prefix}.{name}"] = weight
    return named


def write_model(folder: Path, pruned: CutModel, dense: LoadedModel) -> None:
    """Write weights, config, tokenizer, generation config and, where needed, code.

    Args:
        folder: An empty folder.
        pruned: What to write.
        dense: The model it was cut from.
    """
    weights = _as_stored(pruned, dense)
    save_torch_state_dict(weights, folder, metadata={"format": "pt"})
    config = {**pruned.config, "dtype": str(dense.stored_dtype).removeprefix("torch.")}
    config.pop("_name_or_path", None)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    dense.tokenizer.save_pretrained(folder)
    if dense.model.generation_config is not None:
        dense.model.generation_config.save_pretrained(folder)
    if not pruned.is_stock:
        code = _bundled_code(dense)
        (folder / f"{CODE_FILE}.py").write_text(code, encoding="utf-8")


def _as_stored(pruned: CutModel, dense: LoadedModel) -> dict[str, Tensor]:
    """Give weights in the dtype of the source and buffers in their own, as files name them."""
    stored: dict[str, Tensor] = {}
    for dtype, is_weight in ((dense.stored_dtype, True), (None, False)):
        own: dict[str, Tensor] = {
            name: weight.detach()
            for name, weight in pruned.weights.items()
            if isinstance(weight, nn.Parameter) is is_weight
        }
        if pruned.stock is not None:
            own = as_published(own, type(dense.model), pruned.stock)
        for name, weight in own.items():
            written = weight.to("cpu", dtype or weight.dtype).contiguous()
            # an expert by itself is a part of a stack, which cannot be written as one
            is_part = written.untyped_storage().nbytes() > written.nbytes
            stored[name] = written.clone() if is_part else written
    return stored


def _bundled_code(dense: LoadedModel) -> str:
    """Give the modelling code with this family's stock classes in the place of Llama's."""
    code = Path(modeling_pruned.__file__).read_text(encoding="utf-8")
    config = dense.model.config
    base = getattr(dense.model, dense.model.base_model_prefix)
    for example, own in (
        ("import LlamaConfig", f"import {type(config).__name__}"),
        ("import LlamaForCausalLM", f"import {type(dense.model).__name__}"),
        ("import LlamaModel", f"import {type(base).__name__}"),
        ('"pruned_llama"', f'"pruned_{config.model_type}"'),
    ):
        assert example in code, example
        code = code.replace(example, own)
    return code
