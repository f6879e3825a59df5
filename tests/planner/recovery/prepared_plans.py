"""Models that are prepared without a search, and plans of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evaluators.scoring.batches import Fidelity
from evaluators.scoring.layer_scores import score_layers
from planner.preparation.dense_model import open_model
from planner.preparation.prepare import prepare
from planner.preparation.prepared_model import PreparedModel
from planner.recovery.cut_plan import CutPlan
from planner.recovery.recovered_weights import place_
from planner.settings.search import SearchSettings
from search_spaces.progress import NO_PROGRESS

TEXT: dict[str, Any] = {
    "search_windows": 4,
    "window_tokens": 16,
    "calibration_windows": 64,
    "fresh_windows": 3,
    "holdout_windows": 3,
    "dtype": "float32",
}


def prepared_model(model: Path, folder: Path, **options: Any) -> PreparedModel:
    """Open and prepare a model, with the files of its preparation in a folder."""
    settings = SearchSettings.checked(model=str(model), **{**TEXT, **options})
    folder.mkdir(exist_ok=True)
    return prepare(open_model(settings, NO_PROGRESS), settings, folder, NO_PROGRESS)


def smaller_plan(prepared: PreparedModel, share: float = 0.5, first: int = 0) -> CutPlan:
    """Return the plan with each site at some share of its levels, from a layer on.

    Of options a share of 0 is the sparsest pattern and the narrowest format.
    """
    space = prepared.space
    genome = np.array(
        [
            site.top_level
            if min(space.components[target].layer for target in site.targets) < first
            else max(int(site.dimension == "units"), int(share * site.top_level))
            for site in space.sites
        ]
    )
    return CutPlan(prepared=prepared, plan=space.plan(space.repaired(genome[None])[0]))


def dense_plan(prepared: PreparedModel) -> CutPlan:
    """Return the plan that keeps everything."""
    return CutPlan(prepared=prepared, plan=prepared.space.plan(prepared.space.top_levels))


def kl_of(plan: CutPlan, windows: Tensor, changes: dict[int, dict[str, Tensor]]) -> float:
    """Return the KL of a plan to the dense model with some tensors changed."""

    def layer_at(index: int) -> torch.nn.Module:
        layer = plan.layer(index)
        place_(layer, changes.get(index, {}))
        return layer

    backbone = plan.prepared.sorted_model.structure.backbone
    fidelity = Fidelity(metrics=("kl",))
    return score_layers(backbone, layer_at, windows, fidelity, ends=plan.ends).mean("kl")
