"""Reading MLPs, gated or plain, fused or not: the rows and columns of each inner channel."""

import os.path
from collections import Counter
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from search_spaces.errors import StructureError
from search_spaces.reading.dependencies import owners
from search_spaces.reading.probe import LayerProbe, LayerRun
from search_spaces.structure.components import ComponentKind, Projection
from search_spaces.structure.linear import matrix
from search_spaces.structure.projections import Projections


def find_mlp(probe: LayerProbe, others: Collection[str]) -> Projections | None:
    """Return the MLP of one layer, if it has one: its linear layers besides those of an attention.

    Args:
        probe: The layer.
        others: Paths of linear layers that belong to its attention.

    Raises:
        StructureError: If it is of unknown wiring.
    """
    paths = [path for path in probe.linears if path not in others]
    parents = Counter(path.rpartition(".")[0] for path in paths)
    # one output by itself: the gate of a shared expert whose other experts are gone
    gates = [
        path
        for path in paths
        if len(matrix(probe.linears[path])) == 1 and parents[path.rpartition(".")[0]] == 1
    ]
    if paths == gates:
        return None
    return mlp_of(probe, [path for path in paths if path not in gates], "mlp")


def mlp_of(probe: LayerProbe, paths: list[str], kind: ComponentKind) -> Projections:
    """Return the MLP that some linear layers make up.

    Args:
        probe: Its layer.
        paths: Paths of all its linear layers.
        kind: Kind of the component.

    Raises:
        StructureError: If they make up one of unknown wiring.
    """
    run = probe.run(substitute=lambda path, dense: _leaf(dense) if path in paths else dense)
    ran = [path for path in run.inputs if path in paths]
    if len(ran) != len(paths):
        odd = min(set(paths) - set(ran))
        raise StructureError(
            f"the linear layers of an MLP must all run, and `{probe.path}.{odd}` does not run; "
            "this layer cannot be read"
        )
    down = ran[-1]
    width = run.inputs[down].shape[-1]
    projections = (
        *_row_channels(probe, run, down, ran[:-1]),
        Projection(path=down, side="columns", units=np.arange(width)),
    )
    module = _innermost_module([projection.path for projection in projections])
    return Projections(
        kind=kind,
        layer=probe.index,
        unit_count=width,
        projections=projections,
        module=module,
        returns=probe.returns(module) if module else 1,
    )


def _leaf(dense: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    # positive values, so that no activation function is flat there
    return (torch.rand(dense.shape, generator=generator).to(dense) + 0.5).requires_grad_()


def _row_channels(
    probe: LayerProbe, run: LayerRun, down: str, ups: list[str]
) -> tuple[Projection, ...]:
    """Return the linear layers before the last one with the channel of each of their rows."""
    target = run.inputs[down]
    channels = target.shape[-1]
    leaves = [run.outputs[path] for path in ups]
    row_channels = owners(target, np.arange(channels), leaves) if target.requires_grad else []
    for path, units in zip(ups, row_channels, strict=False):
        if (units < 0).any() or len(np.unique(np.bincount(units, minlength=channels))) != 1:
            raise StructureError(
                f"each row of `{probe.path}.{path}` must feed one channel of "
                f"`{probe.path}.{down}`, and some feed none or several; this MLP is wired in a "
                "way that the planner does not know"
            )
    if not row_channels:
        raise StructureError(
            f"`{probe.path}.{down}` must read what other linear layers of the MLP give, and it "
            "reads none; this MLP cannot be read"
        )
    return tuple(
        Projection(path=path, side="rows", units=units)
        for path, units in zip(ups, row_channels, strict=True)
    )


def _innermost_module(paths: list[str]) -> str:
    """Return the path of the innermost module that holds all paths; empty: the layer itself."""
    parents = [path.replace(".", os.path.sep).rpartition(os.path.sep)[0] for path in paths]
    return os.path.commonpath(parents).replace(os.path.sep, ".") if all(parents) else ""
