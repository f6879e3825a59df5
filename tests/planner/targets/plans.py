"""Plans that keep as much everywhere."""

import numpy as np

from search_spaces.models.fingerprint import identify
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure


def alike(structure: ModelStructure, kind: str, units: int) -> Plan:
    """Keep so many units of each component of a kind, and all others whole."""
    counts = [
        component.members(np.arange(component.member_count), min(units, component.unit_count))
        if component.kind == kind
        else np.arange(component.member_count)
        for component in structure.components
    ]
    sites = {
        component.name: ComponentPlan.of(np.sort(kept), component.member_count)
        for component, kept in zip(structure.components, counts, strict=True)
    }
    return Plan(model=identify(structure.backbone.model), sites=sites)
