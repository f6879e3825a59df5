"""What classes of transformers hold without code of ours, and what vLLM holds with it."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedConfig

from planner.targets.hf.pack_quantized import stock_integers, unpacked
from planner.targets.hf.stock import (
    SHARED_COUNT,
    SHARED_NAMES,
    build,
    place_dense_layers,
    shorten,
    stock_config,
)
from planner.targets.hf.wiring import Sizes, Wiring
from search_spaces.models.fingerprint import lasting
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, ExpertPruning
from search_spaces.space.configuration import Dimension
from search_spaces.space.holds import Holds
from search_spaces.space.number_format import INTEGERS
from search_spaces.structure.components import Component, ComponentKind
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut

_ALIKE: Mapping[ComponentKind, frozenset[Dimension]] = {
    "attention": frozenset({"units"}),
    "mlp": frozenset({"units"}),
    "experts": frozenset({"units", "channels", "top_k"}),
    "shared": frozenset({"units"}),
}
_ALONE = "vLLM weighs an expert that runs alone in another way than most families do"
"""Its Transformers backend renormalises the weights of two or more, unless a config says more."""


def native_holds(structure: ModelStructure) -> Holds:
    """Return what the class of transformers that a model stands on can hold of it.

    Layers that are kept are whole and alike, with widths that its config can say: which these are
    is found by building the class from the config.
    """
    stock = _Stock(structure)

    def refuses(component: Component, units: int, options: BlockOptions) -> str:
        return unpacked(structure, component, options) or stock.refuses(component, units, options)

    stores = stock_integers(structure)
    return Holds(refuses=refuses, equal=_ALIKE, whole_layers=True, stores=stores, caches=())


def packed_holds(structure: ModelStructure) -> Holds:
    """Return what transformers holds of a model with code of ours: all, in formats that it packs.

    An export holds other number formats too, but dequantised, which saves no byte.
    """

    def refuses(component: Component, _units: int, options: BlockOptions) -> str:
        return unpacked(structure, component, options)

    return Holds(refuses=refuses, stores=INTEGERS, caches=())


def vllm_holds(structure: ModelStructure) -> Holds:
    """Return what vLLM can hold of a model, through its Transformers backend.

    It gives all layers with experts one width of them and one top-k. Of their number it makes room
    for the largest, and a router of fewer never asks for the others.
    """

    def refuses(component: Component, _units: int, options: BlockOptions) -> str:
        alone = _ALONE if options.top_k == 1 else ""
        return alone or unpacked(structure, component, options)

    return Holds(
        refuses_model=refused_by_vllm(structure, ()),
        refuses=refuses,
        equal={"experts": frozenset({"channels", "top_k"})},
        stores=stock_integers(structure),
        caches=(),
    )


def refused_by_vllm(structure: ModelStructure, sizes: Sequence[Sizes]) -> str:
    """Return why vLLM does not run our code for what is kept of a model; empty: it does.

    Args:
        structure: The dense model.
        sizes: What each layer keeps.
    """
    model: Any = structure.backbone.model
    if not model.is_backend_compatible():
        return f"{type(model).__name__} does not let vLLM compute its attention"
    insides = {(each["channels"], each["top_k"]) for each in sizes if each.get("experts")}
    if any(top_k == 1 for _, top_k in insides):
        return _ALONE
    if len(insides) > 1:
        return "it gives the experts of all layers one width and one top-k, and here they differ"
    return ""


class _Stock:
    """The class that a model stands on, asked for smaller and smaller layers.

    Args:
        structure: The model.
    """

    def __init__(self, structure: ModelStructure) -> None:
        self._structure = structure
        self._wiring = Wiring.of(structure)
        self._known: dict[tuple[ComponentKind, int, int, int], bool] = {}

    def refuses(self, component: Component, units: int, options: BlockOptions) -> str:
        """Return why a component is not held; see `Holds`."""
        kind, name = component.kind, self._wiring.model_class.__name__
        if units and not self._says(kind, units):
            return f"no config of {name} gives it {units} {component.unit_choice}"
        if options.channels and (self._counts_shared or not self._says(kind, 0, options)):
            return f"no config of {name} gives its experts {options.channels} channels"
        if options.top_k and not self._says(kind, 0, options):
            return f"no config of {name} runs {options.top_k} of its experts for a token"
        return ""

    @cached_property
    def _counts_shared(self) -> bool:
        """Whether the shared expert is as wide as some others, whatever their width."""
        config = self._wiring.config
        has_shared = any(each.kind == "shared" for each in self._structure.components)
        by_name = any(hasattr(config, name) for name in SHARED_NAMES)
        return has_shared and hasattr(config, SHARED_COUNT) and not by_name

    def _says(
        self, kind: ComponentKind, units: int, options: BlockOptions = DENSE_OPTIONS
    ) -> bool:
        """Return whether a config has all components of a kind keep so many units; 0: all."""
        asked = kind, units, options.channels, options.top_k
        if asked not in self._known:
            self._known[asked] = self._builds(*asked)
        return self._known[asked]

    def _builds(self, kind: ComponentKind, units: int, channels: int, top_k: int) -> bool:
        wiring, structure = self._wiring, self._structure
        sizes: list[Sizes] = [dict.fromkeys(wiring.kind(i), 0) for i in range(len(wiring.sources))]
        shapes = dict(self._shapes_around)
        for place, (index, dense) in enumerate(self._examples.items()):
            choices: list[tuple[Component, Any]] = []
            insides = []
            for component in structure.layers[index].components:
                is_asked = component.kind == kind
                count = min(units, component.unit_count) if is_asked and units else None
                members = np.arange(component.member_count)
                if count is not None:
                    members = np.sort(component.members(members, count))
                inside = _inside(component, len(members), channels, top_k) if is_asked else None
                choices.append((component, members))
                insides.append(inside or ExpertPruning())
            counts = [len(members) for _, members in choices]
            sizes[index] = wiring.sizes(structure.layers[index], index, counts, insides)
            narrow = cut(dense, choices, (), insides)
            for name, weight in lasting(narrow).items():
                shapes[f"{wiring.stack}.{place}.{name}"] = tuple(weight.shape)
        return stock_config(wiring, sizes, shapes) is not None

    @cached_property
    def _model(self) -> Any:
        """The dense model with one layer of each kind, on the ``meta`` device."""
        model = build(self._wiring.model_class, self._config)
        assert model is not None, "a stock class refuses the config of a model of it"
        return model

    @property
    def _config(self) -> PreTrainedConfig:
        config = copy.deepcopy(self._wiring.config)
        indices = self._indices
        shorten(config, np.array([self._wiring.sources[index] for index in indices]))
        place_dense_layers(config, [self._wiring.kind(index) for index in indices], self._wiring)
        return config

    @cached_property
    def _indices(self) -> list[int]:
        kinds = [self._wiring.kind_of[source] for source in self._wiring.sources]
        return sorted(kinds.index(kind) for kind in set(kinds))

    @cached_property
    def _examples(self) -> dict[int, nn.Module]:
        stack = self._model.get_submodule(self._wiring.stack)
        return dict(zip(self._indices, stack, strict=True))

    @cached_property
    def _shapes_around(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all that lies in no layer."""
        return {
            name: tuple(weight.shape)
            for name, weight in lasting(self._model).items()
            if not name.startswith(f"{self._wiring.stack}.")
        }


def _inside(component: Component, members: int, channels: int, top_k: int) -> ExpertPruning | None:
    if not component.channel_count:
        return None
    kept = np.tile(np.arange(channels), (members, 1)) if channels else None
    return ExpertPruning(channels=kept, top_k=top_k)
