"""Reading attentions: the rows and columns of each key–value group with its query heads.

The unit is a KV group, so that the cache shrinks with it and grouped-query attention stays
grouped. A group's rows and columns are found by following gradients through the attention core,
whatever the layout: separate, fused, or interleaved head by head.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.errors import StructureError
from search_spaces.reading.dependencies import owners
from search_spaces.reading.probe import CoreRun, LayerProbe, LayerRun, rounding
from search_spaces.structure.components import Projection
from search_spaces.structure.graft import graft
from search_spaces.structure.linear import SlicedLinear, bias, matrix
from search_spaces.structure.projections import Projections
from search_spaces.surgery.slice_and_cut import narrowed


def find_attention(probe: LayerProbe) -> Projections | None:
    """Return the attention of one layer, if it has one.

    Raises:
        StructureError: If the layer has more than one, one of unknown wiring, or something else
            in which a token sees others.
    """
    run = probe.run(leaf_core=True)
    if not run.cores and not _mixes_tokens(probe):
        return None
    if len(run.cores) != 1:
        raise StructureError(
            f"a layer must call transformers' attention interface once, got {len(run.cores)} "
            f"calls in `{probe.path}`; this layer cannot be read"
        )
    core = run.cores[0]
    module = next(path for path, m in probe.layer.named_modules() if m is core.module)
    output = _output_projection(probe, run, core, module)
    columns = _column_groups(probe, run, core, output)
    rows = _row_groups(probe, module, output, columns)
    head_dims = core.key_dim + core.value_dim
    component = Projections(
        kind="attention",
        layer=probe.index,
        unit_count=core.groups,
        projections=(*rows, Projection(path=output, side="columns", units=columns)),
        module=module,
        returns=probe.returns(module),
        cached_features=head_dims,
        core_features=core.query_heads // core.groups * head_dims,
    )
    attributes = _following_attributes(probe, component, core)
    return (
        _as_one_unit(component)
        if attributes is None
        else replace(component, attributes=attributes)
    )


def _mixes_tokens(probe: LayerProbe) -> bool:
    """Return whether what a layer gives for a token depends on another token."""
    expected, changed = probe.run().result, probe.hidden.clone()
    changed[:, 0] += probe.hidden.std() * torch.linspace(-1, 1, changed.shape[-1]).to(changed)
    # rounding only: what runs in one batch with a token differs, as where experts are chosen
    gap = (probe.run(hidden=changed).result - expected)[:, 1:].abs().max()
    return bool(gap > rounding(expected) * (expected - probe.hidden).std())


def _as_one_unit(component: Projections) -> Projections:
    """Return an attention as one unit, for its heads depend on each other, as by a norm."""
    projections = (replace(p, units=np.zeros_like(p.units)) for p in component.projections)
    return replace(
        component,
        unit_count=1,
        projections=tuple(projections),
        cached_features=component.cached_features * component.unit_count,
        core_features=component.core_features * component.unit_count,
    )


def _output_projection(probe: LayerProbe, run: LayerRun, core: CoreRun, module: str) -> str:
    after = [
        path
        for path in run.inputs
        if path.startswith(f"{module}.") and path not in core.linears_before
    ]
    if len(after) != 1:
        raise StructureError(
            f"an attention must end in one linear layer, got {len(after)} after the core of "
            f"`{probe.path}.{module}`; this attention cannot be read"
        )
    return after[0]


def _column_groups(
    probe: LayerProbe, run: LayerRun, core: CoreRun, output: str
) -> NDArray[np.int_]:
    """Return the KV group of each input of the output projection, ``(columns,)``."""
    target = run.inputs[output]
    width = target.shape[-1]
    (column_of,) = owners(target, np.arange(width), [core.output])
    group_of = np.arange(len(column_of)) // core.value_dim * core.groups // core.query_heads
    columns = np.full(width, -1)
    columns[column_of[column_of >= 0]] = group_of[column_of >= 0]
    if (columns < 0).any() or (np.diff(columns) < 0).any():
        raise StructureError(
            f"the inputs of `{probe.path}.{output}` must be the heads one after another; "
            "this attention is wired in a way that the planner does not know"
        )
    return columns


def _row_groups(
    probe: LayerProbe, module: str, output: str, columns: NDArray[np.int_]
) -> tuple[Projection, ...]:
    """Return the input projections with the KV group of each of their rows.

    A projection whose rows all serve several groups, as where keys are computed from a latent, or
    that only other projections read, belongs to no group and is never pruned. Where one group is
    left, so does one of which it reads some rows only.
    """

    def leaf(path: str, dense: Tensor) -> Tensor:
        if path == output or not path.startswith(f"{module}."):
            return dense
        generator = torch.Generator().manual_seed(0)
        # small values keep the softmax soft, so that no gradient underflows to zero
        noise = torch.randn(dense.shape, generator=generator).to(dense) * 0.3
        return noise.requires_grad_()

    run = probe.run(substitute=leaf)
    paths = [path for path, out in run.outputs.items() if out.is_leaf and out.requires_grad]
    row_groups = owners(run.inputs[output], columns, [run.outputs[path] for path in paths])
    grouped = {
        path: units for path, units in zip(paths, row_groups, strict=True) if (units >= 0).any()
    }
    if not columns.any():
        grouped = {path: units for path, units in grouped.items() if not (units < 0).any()}
    for path, units in grouped.items():
        if (units < 0).any() or len(np.unique(np.bincount(units))) != 1:
            raise StructureError(
                f"each row of `{probe.path}.{path}` must serve one key-value group, as many rows "
                "each, and some serve none or several; this attention is wired in a way that the "
                "planner does not know"
            )
    return tuple(
        Projection(path=path, side="rows", units=units) for path, units in grouped.items()
    )


def _following_attributes(
    probe: LayerProbe, component: Projections, core: CoreRun
) -> Mapping[str, int] | None:
    """Find by trial the integers of the attention module that must follow its width.

    Some forwards read a head count or a split size where others take it from the tensors. The
    right set of attributes is the smallest with which the narrow attention computes what the dense
    one with masked heads computes. None: there is no such set.
    """
    if component.unit_count == 1:
        return {}
    # two counts, so that no other integer that happens to fit one of them is mistaken
    counts = sorted({1, component.unit_count - 1})
    expected = [_masked_result(probe, component, count) for count in counts]
    for attributes in _candidates(component, core):
        trial = replace(component, attributes=attributes)
        if all(
            _agrees(probe, trial, count, result)
            for count, result in zip(counts, expected, strict=True)
        ):
            return attributes
    return None


def _candidates(component: Projections, core: CoreRun) -> Iterator[Mapping[str, int]]:
    head_counts = {core.query_heads, core.groups}
    widths = head_counts | {count * core.value_dim for count in head_counts}
    attributes = vars(core.module)
    config = vars(attributes["config"]) if "config" in attributes else {}
    named = [*attributes.items(), *((f"config.{name}", value) for name, value in config.items())]
    amounts = {
        name: value // component.unit_count
        for name, value in named
        if type(value) is int and value in widths
    }
    for size in range(4):
        for names in combinations(amounts, size):
            yield {name: amounts[name] for name in names}


def _masked_result(probe: LayerProbe, component: Projections, count: int) -> Tensor:
    """Run the dense layer with all but the first groups masked in the output projection."""
    output = component.projections[-1]
    dense = probe.layer.get_submodule(output.path)
    keep = torch.from_numpy(output.units < count).to(matrix(dense))
    masked = SlicedLinear([(matrix(dense) * keep, bias(dense))])
    return probe.run(layer=graft(probe.layer, {output.path: masked})).result


def _agrees(probe: LayerProbe, component: Projections, count: int, expected: Tensor) -> bool:
    try:
        result = probe.run(layer=narrowed(probe.layer, [(component, count)])).result
    except (RuntimeError, ValueError):  # shapes that do not fit: other attributes are right
        return False
    gap = (result - expected).abs().max()
    # a wrong head count changes the result entirely
    return bool(gap <= rounding(expected) * (expected - probe.hidden).std())
