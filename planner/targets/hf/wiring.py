"""What the bundled modelling code must know about a family: which tensors shrink with what."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Self

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from planner.targets.hf.modeling_pruned import part_shapes
from search_spaces.models.own_exports import WIRING_VERSION, stock_class, wiring_of
from search_spaces.space.block_options import DENSE_EXPERTS, ExpertPruning
from search_spaces.structure.components import Component
from search_spaces.structure.linear import bias
from search_spaces.structure.mixture import Mixture
from search_spaces.structure.model import LayerStructure, ModelStructure

Sizes = dict[str, int]
"""What a layer keeps: units of each of its kinds of component; ``channels`` and ``top_k`` too if
it keeps experts."""

_OURS = (
    "added_biases",
    "architectures",
    "auto_map",
    "groups",
    "idle",
    "model_type",
    "per_layer_config",
    "sources",
    "sublayers",
    "wiring",
)
"""Keys of the config of an export that say something else in that of a stock model, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """A model as one of the stock class that it stands on, whose layers its own are made from.

    A model of a stock class is that model itself; an export of ours, however often it was pruned,
    stands on the one that was pruned first.
    """

    config: PreTrainedConfig
    """Of the stock model."""
    model_class: type[PreTrainedModel]
    stack: str
    """Path of its layers."""
    sequential: bool
    """Whether an attention and an MLP of different layers can run as one layer.

    They cannot if the two share a norm, or read the same input side by side."""
    kinds: Sequence[Mapping[str, Any]]
    """Of each kind of layer its components' wiring, by their kind."""
    norms: Sequence[Sequence[str]]
    """Of each kind of layer the paths of all that is left out once nothing reads it."""
    kind_of: Sequence[int]
    """Of each layer of the stock model."""
    sources: Sequence[int]
    """Of each layer that was read, the number of the one that it is made from."""

    @classmethod
    def of(cls, structure: ModelStructure) -> Self:
        """Describe a model that was read."""
        model = structure.backbone.model
        described = wiring_of(model.config)
        if described is None:
            described, sources = _described(structure), [*range(len(structure.layers))]
        else:
            shapes: Any = part_shapes
            sources = [shape[0] for block in shapes(model.config) for shape in block]
        return cls(
            config=_stock_config(model.config, described.get("dense", {})),
            model_class=stock_class(type(model)),
            stack=described["stack"],
            sequential=described["sequential"],
            kinds=described["kinds"],
            norms=described["norms"],
            kind_of=described["kind_of"],
            sources=sources,
        )

    def described(self, dense: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``config.wiring`` holds.

        Args:
            dense: Values of the stock model's config that the export's has otherwise.
        """
        return {
            "version": WIRING_VERSION,
            "stack": self.stack,
            "sequential": self.sequential,
            "kinds": list(self.kinds),
            "norms": list(self.norms),
            "kind_of": list(self.kind_of),
            "dense": dict(dense),
        }

    def kind(self, layer: int) -> Mapping[str, Any]:
        """Return the wiring of the stock layer that a layer is made from."""
        return self.kinds[self.kind_of[self.sources[layer]]]

    def idle(self, layer: int, *cut: nn.Module) -> list[str]:
        """Return the norms that a part has no longer, made from one layer or the halves of two."""
        norms = self.norms[self.kind_of[self.sources[layer]]]
        held = {path.rpartition(".")[0] for each in cut for path in each.state_dict()}
        return [path for path in norms if path not in held]

    def dense_sizes(self, layer: int) -> Sizes:
        """Return what that stock layer has."""
        kind = self.kind(layer)
        sizes = {name: int(component["units"]) for name, component in kind.items()}
        return sizes | _inner(kind.get("experts", {}))

    def sizes(
        self,
        layer: LayerStructure,
        index: int,
        counts: Sequence[int],
        insides: Iterable[ExpertPruning] = (),
    ) -> Sizes:
        """Return what a layer keeps, in units of the stock model.

        Args:
            layer: The layer.
            index: Its number.
            counts: Kept members of each of its components.
            insides: What the kept members of each keep of themselves; empty: all.
        """
        kind = self.kind(index)
        sizes = dict.fromkeys(kind, 0)
        for component, count, inside in zip_longest(layer.components, counts, insides):
            name = self.name(index, component)
            sizes[name] = count
            if component.projections:
                output = component.projections[-1]
                features = count * (len(output.units) // component.unit_count)
                sizes[name], rest = divmod(features, kind[name]["columns"][output.path])
                assert not rest, f"`{component.name}` is read with other units than before"
            if component.channel_count and count:
                pruning = inside or DENSE_EXPERTS
                kept = pruning.channels
                sizes["channels"] = component.channel_count if kept is None else kept.shape[1]
                sizes["top_k"] = pruning.top_k or component.top_k
        return sizes

    def name(self, index: int, component: Component) -> str:
        """Return what kind a component of a layer is in the stock model.

        A shared expert without the others next to it is read as an MLP.
        """
        return component.kind if component.kind in self.kind(index) else "shared"


def _stock_config(config: PreTrainedConfig, dense: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the config of the stock model that one stands on."""
    if wiring_of(config) is None:
        return config
    values = {name: value for name, value in config.to_dict().items() if name not in _OURS}
    stock = stock_class(type(config)).from_dict(values)
    for name, value in dense.items():
        setattr(stock, name, value)
    return stock


def _described(structure: ModelStructure) -> dict[str, Any]:
    """Return the wiring of each kind of layer of a stock model."""
    kinds: list[dict[str, Any]] = []
    norms: list[list[str]] = []
    kind_of: list[int] = []
    for dense, layer in zip(structure.layers, structure.backbone.layers, strict=True):
        wiring: dict[str, Any] = {
            component.kind: _of_component(component, layer) for component in dense.components
        }
        private = {path for component in dense.components for path in component.private}
        kind = wiring, sorted(private.union(dense.shared))
        if kind not in (known := list(zip(kinds, norms, strict=True))):
            kinds.append(kind[0])
            norms.append(kind[1])
            known.append(kind)
        kind_of.append(known.index(kind))
    return {
        "stack": structure.backbone.stack.path,
        "sequential": not any(layer.parallel or layer.shared for layer in structure.layers),
        "kinds": kinds,
        "norms": norms,
        "kind_of": kind_of,
    }


def _of_component(component: Component, layer: nn.Module) -> dict[str, Any]:
    description: dict[str, Any] = {
        "module": component.module,
        "returns": component.returns,
        "units": component.member_count,
    }
    if isinstance(component, Mixture):
        return description | _of_experts(component)
    if component.cached_features:
        heads = component.core_features // component.cached_features
        description["query_heads"] = heads  # of each unit
    amounts = {
        p.path: (p.side, len(p.units) // component.unit_count) for p in component.projections
    }
    return description | {
        "rows": {path: amount for path, (side, amount) in amounts.items() if side == "rows"},
        "columns": {path: amount for path, (side, amount) in amounts.items() if side == "columns"},
        "attributes": dict(component.attributes),
        "gains_bias": bias(layer.get_submodule(component.projections[-1].path)) is None,
    }


def _of_experts(experts: Mixture) -> dict[str, Any]:
    return {
        "channels": experts.channel_count,
        "top_k": experts.top_k,
        "router": experts.router,
        "router_rows": list(experts.router_rows),
        "stacks": [
            {
                "path": stack.path,
                "axis": stack.axis,
                "features": len(stack.channels) // experts.channel_count,
            }
            for stack in experts.stacks
        ],
        "count_attributes": [list(pair) for pair in experts.count_attributes],
        "top_k_attributes": [list(pair) for pair in experts.top_k_attributes],
    }


def _inner(experts: Mapping[str, Any]) -> Sizes:
    return {name: int(experts[name]) for name in ("channels", "top_k") if name in experts}
