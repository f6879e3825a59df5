"""Bytes of experts that are read to decode one token."""

from collections.abc import Sequence

import numpy as np

from evaluators.costs.cost_table import ComponentOptions, CostTable, Floats, tabulated
from evaluators.costs.mixture import ExpertWeights, MixtureConfigurations
from evaluators.costs.size import byte_count
from evaluators.metric import Metric
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

LOADING = Metric(
    name="loading",
    unit="bytes/token",
    direction="minimise",
    source="weights of the experts that run for one token, and of the shared one",
)


def loading_table(
    stored: ModelStructure, block_options: ComponentOptions, size: CostTable
) -> CostTable:
    """Count the bytes of experts that a decode step of one request reads.

    It is what bounds decoding if memory is the limit, or if experts lie in slower memory than the
    rest. Zeros are read too.

    Args:
        stored: The model as it is stored.
        block_options: For each component its options, the dense one first.
        size: Bytes of all that is stored, of which the shared expert is read in full.
    """

    def table(component: Component, options: Sequence[BlockOptions]) -> Floats:
        if component.experts is None:
            return np.zeros(1)
        configurations = MixtureConfigurations.of(component, component.experts, options)
        layer = stored.backbone.layers[component.layer]
        each = ExpertWeights.of(layer, component.experts, byte_count)
        return np.asarray(configurations.running * each.expert(configurations.channels))

    routed = zip(stored.components, tabulated(stored, block_options, table), strict=True)
    return CostTable(
        tables=tuple(
            all_bytes if component.kind == "shared" else read_bytes
            for (component, read_bytes), all_bytes in zip(routed, size.tables, strict=True)
        ),
        shared=np.zeros(len(stored.layers)),
        rest=0.0,
    )
