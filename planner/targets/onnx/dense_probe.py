"""What one pass of a dense model shows of its layers: what they keep, and what they return."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch

from planner.targets.onnx.traced_cache import KeysAndValues
from search_spaces.errors import TargetError
from search_spaces.structure.backbone import probe_tokens
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """What one layer with an attention keeps of each token."""

    slot: int
    """Its number in the cache of `transformers`."""
    heads: int
    key_features: int
    value_features: int

    def zeros(self, batch: int, length: int) -> KeysAndValues:
        """Return keys and values of zeros."""
        return (
            torch.zeros(batch, self.heads, length, self.key_features),
            torch.zeros(batch, self.heads, length, self.value_features),
        )


@dataclass(frozen=True, kw_only=True)
class DenseProbe:
    """What a tracer must know of a model's layers."""

    caches: Mapping[int, CacheShape]
    """Of the layers with an attention, by their places."""
    returns_tuples: bool
    """Whether a layer returns more than its hidden states."""

    @classmethod
    @torch.inference_mode()
    def of(cls, structure: ModelStructure) -> Self:
        """Run it on a few tokens.

        Raises:
            TargetError: If its layers do not have a cache each.
        """
        backbone = structure.backbone
        returned: list[object] = []
        hook = backbone.layers[0].register_forward_hook(lambda *args: returned.append(args[2]))
        with hook:
            cache = backbone.model(probe_tokens(backbone.model), use_cache=True).past_key_values
        slots = [slot for slot, layer in enumerate(cache.layers) if layer.is_initialized]
        places = [i for i, layer in enumerate(structure.layers) if layer.of_kind("attention")]
        if len(slots) != len(places):
            raise TargetError(
                "`--format onnx` needs a model whose attentions have keys and values each, got "
                f"{len(slots)} for {len(places)} attentions; choose another format"
            )
        shapes = {
            place: CacheShape(
                slot=slot,
                heads=cache.layers[slot].keys.shape[1],
                key_features=cache.layers[slot].keys.shape[3],
                value_features=cache.layers[slot].values.shape[3],
            )
            for place, slot in zip(places, slots, strict=True)
        }
        return cls(caches=shapes, returns_tuples=isinstance(returned[0], tuple))
