"""Reading a model: every layer's components, found in its module graph and checked by running."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from search_spaces.errors import ModelError, StructureError
from search_spaces.models.own_exports import (
    WIRING_VERSION,
    comes_with_code,
    runs_its_own_code,
    wiring_of,
)
from search_spaces.models.streaming import LayerStream
from search_spaces.reading.attention import find_attention
from search_spaces.reading.find_experts import find_experts
from search_spaces.reading.lively import lively, lively_states
from search_spaces.reading.mlp import find_mlp
from search_spaces.reading.probe import LayerProbe
from search_spaces.structure.backbone import Backbone, probe_tokens
from search_spaces.structure.components import Component
from search_spaces.structure.model import LayerStructure, ModelStructure
from search_spaces.structure.path_checks import check_cache, check_path
from search_spaces.structure.residual import constant_factor
from search_spaces.surgery.slice_and_cut import narrowed


def read_structure(model: PreTrainedModel, stream: LayerStream | None = None) -> ModelStructure:
    """Return the structure of a model: its layers and their components.

    Args:
        model: Any HuggingFace causal language model, in evaluation mode, without gradients.
        stream: Reads its layers from disk; None: they are in memory.

    Raises:
        StructureError: If a module cannot be read; names the module.
    """
    try:
        return _read(Backbone(model, stream))
    except ModelError:
        raise
    except (TypeError, AttributeError, RuntimeError, LookupError, ValueError) as error:
        raise StructureError(
            f"a model must run layer by layer as causal language models do, and "
            f"{type(model).__name__} does not; this architecture cannot be read, `--debug` shows "
            "where it fails"
        ) from error


def check_exportable(model: PreTrainedModel) -> None:
    """Refuse a model whose class is not part of transformers, for an export could not name it.

    Exports of ours say which class they stand on.

    Raises:
        StructureError: If the model brings other Python code, or that of another version, or ours
            with a change, which an export of it would not have.
    """
    if not comes_with_code(type(model)):
        return
    wiring = wiring_of(model.config)
    if wiring is None:
        raise StructureError(
            f"a model must be of a class that transformers holds, and {type(model).__name__} "
            "comes with its own code, which an export could not build on; this model cannot be "
            "searched"
        )
    if wiring.get("version") != WIRING_VERSION:
        raise StructureError(
            "an export must be of this version of the planner to be pruned again, and this one "
            "is of another; export its plan again"
        )
    if not runs_its_own_code(type(model), wiring):
        raise StructureError(
            "the code of an export must be as it was written, for what is pruned of it is written "
            "with the planner's own, and its `modeling_pruned.py` was changed; export its plan "
            "again"
        )


def _read(backbone: Backbone) -> ModelStructure:
    check_path(backbone)
    if not backbone.streamed:  # which would read its layers four more times
        check_cache(backbone.model)
    with torch.no_grad():
        inputs = backbone.enter(probe_tokens(backbone.model))
    hidden = inputs.hidden
    layers: list[LayerStructure] = []
    for index, call in enumerate(inputs.calls):
        with backbone.resident(index) as layer:
            states = lively_states(hidden)
            layers.append(_read_layer(LayerProbe(backbone, index, call, states, lively(layer))))
            with torch.no_grad():
                hidden = backbone.run_layer(layer, hidden, call)
    return ModelStructure(backbone=backbone, layers=tuple(layers))


def _read_layer(probe: LayerProbe) -> LayerStructure:
    found = _find_components(probe)
    norms = _norms(probe.layer, found)
    components = tuple(_with_private(probe, norms, component) for component in found)
    bare = probe.run(layer=narrowed(probe.layer, _dropped(*components)))
    vanishes = bool((bare.result == probe.hidden).all())
    splits = vanishes and _splits(probe, components)
    if splits:
        components = tuple(_with_addition(probe, each, components) for each in components)
    owned = {path for component in components for path in component.private}
    return LayerStructure(
        components=components,
        shared=tuple(sorted(set(norms) - owned)),
        vanishes=vanishes,
        parallel=_is_parallel(probe, components),
        splits=splits,
    )


def _find_components(probe: LayerProbe) -> tuple[Component, ...]:
    """Return what one layer has, in the order in which it runs."""
    attention = find_attention(probe)
    inside = (
        {path for path in probe.linears if path.startswith(f"{attention.module}.")}
        if attention is not None
        else set()
    )
    feed_forward = find_experts(probe, inside) or (find_mlp(probe, inside),)
    return tuple(each for each in (attention, *feed_forward) if each is not None)


def _dropped(*components: Component) -> list[tuple[Component, int]]:
    return [(component, 0) for component in components]


def _norms(layer: nn.Module, components: Sequence[Component]) -> list[str]:
    """Return the paths of modules with own parameters outside the components."""
    inside = [path for component in components for path in component.paths]
    holders = tuple(f"{component.module}." for component in components if component.module)
    return [
        path
        for path, module in layer.named_modules()
        if next(module.parameters(recurse=False), None) is not None
        and path not in {*inside, *(component.module for component in components)}
        and not path.startswith(holders or ("\0",))
    ]


def _with_private(probe: LayerProbe, norms: list[str], component: Component) -> Component:
    """Return a component with the norms that go when it does.

    A layer that looks at a norm's weight keeps it.
    """
    idle = sorted(_idle(probe, norms, [component]))
    alone = replace(component, private=(*component.private, *idle))
    try:
        probe.run(layer=narrowed(probe.layer, _dropped(alone)))
    except AttributeError:
        return component
    return alone


def _idle(probe: LayerProbe, norms: list[str], dropped: list[Component]) -> set[str]:
    """Return the norms that no longer influence the layer once components are dropped."""
    layer = narrowed(probe.layer, [(component, 0) for component in dropped])
    weights = [(path, weight) for path in norms for weight in _own_parameters(probe.layer, path)]
    for _, weight in weights:
        weight.requires_grad = True
    result = probe.run(layer=layer).result
    generator = torch.Generator().manual_seed(0)
    cotangent = torch.rand(result.shape, generator=generator).to(result)
    gradients = (
        torch.autograd.grad(result, [w for _, w in weights], cotangent, materialize_grads=True)
        if result.requires_grad
        else [torch.zeros_like(weight) for _, weight in weights]
    )
    for _, weight in weights:
        weight.requires_grad = False
    used = {path for (path, _), grad in zip(weights, gradients, strict=True) if bool(grad.any())}
    return set(norms) - used


def _own_parameters(layer: nn.Module, path: str) -> list[nn.Parameter]:
    return list(layer.get_submodule(path).parameters(recurse=False))


def _with_addition(
    probe: LayerProbe, component: Component, components: Sequence[Component]
) -> Component:
    """Return a component with whether it adds its projection's output, of a layer that splits."""
    if not component.projections:
        return component
    others = _dropped(*(each for each in components if each is not component))
    alone = probe.run(layer=narrowed(probe.layer, others))
    output = alone.outputs[component.projections[-1].path].reshape(probe.hidden.shape).float()
    return replace(
        component, adds_output=bool(constant_factor(probe.hidden, alone.result, output))
    )


def _is_parallel(probe: LayerProbe, components: Sequence[Component]) -> bool:
    """Return whether what comes after an attention reads the attention's input, not its output."""
    if len(components) < 2 or not components[0].mixes_tokens:
        return False
    attention, after, *_ = components
    with_attention = probe.arguments(after.reader)[0]
    without = probe.arguments(after.reader, narrowed(probe.layer, _dropped(attention)))[0]
    return torch.equal(with_attention, without)


def _splits(probe: LayerProbe, components: Sequence[Component]) -> bool:
    """Return whether its attention alone and then all else alone compute what the layer does."""
    attention = [component for component in components if component.mixes_tokens]
    others = [component for component in components if not component.mixes_tokens]
    if not attention or not others:
        return len(components) == 1
    between = probe.run(layer=narrowed(probe.layer, _dropped(*others))).result
    apart = probe.run(layer=narrowed(probe.layer, _dropped(*attention)), hidden=between).result
    return torch.equal(apart, probe.run().result)
