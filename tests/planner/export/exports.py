"""Exports that are written and reloaded as a client would, and how near they must come."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.in_process import scored_logits
from planner.targets.hf.loaded_folder import load_export
from planner.targets.hf.model_folder import CutModel, cut_model, write_model
from search_spaces.models.fingerprint import identify
from search_spaces.models.loading import LoadedModel
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.structure.model import ModelStructure
from tests.models.candidates import random_tokens
from tests.models.factory import twin

Units = NDArray[np.int_]
ROUNDING = 1e-4
"""Of the logits' spread: the same float32 sums in another order, through six layers."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """One export and what it was made from."""

    structure: ModelStructure
    """The dense model."""
    plan: Plan
    cut: CutModel
    folder: Path
    model: Any
    """The `PreTrainedModel` reloaded from the folder."""
    tokens: Tensor
    expected: Tensor
    """Logits of the scored candidate for the tokens."""


def plan_of(structure: ModelStructure, kept: list[Units]) -> Plan:
    return Plan(
        model=identify(structure.backbone.model),
        sites={
            component.name: ComponentPlan.of(units, component.unit_count)
            for component, units in zip(structure.components, kept, strict=True)
        },
    )


def export(
    loaded: LoadedModel, structure: ModelStructure, kept: list[Units], folder: Path
) -> Exported:
    """Export what is kept of each component, and load it."""
    return export_plan(loaded, structure, plan_of(structure, kept), folder)


def export_plan(
    loaded: LoadedModel, structure: ModelStructure, plan: Plan, folder: Path
) -> Exported:
    """Export a plan and load it, with trust only where the export says that it takes some."""
    tokens = random_tokens()
    pruned = cut_model(structure, plan)
    folder.mkdir()
    write_model(folder, pruned, loaded)
    stock = AutoModelForCausalLM.from_pretrained
    return Exported(
        structure=structure,
        plan=plan,
        cut=pruned,
        folder=folder,
        model=stock(folder, trust_remote_code=False) if pruned.is_stock else load_export(folder),
        tokens=tokens,
        expected=scored_logits(twin(structure), plan, tokens),
    )


def assert_close(got: Tensor, expected: Tensor) -> None:
    gap = float((got - expected).abs().max())
    assert gap <= ROUNDING * float(expected.std())


@torch.inference_mode()
def logits_of(model: Any, tokens: Tensor) -> Tensor:
    logits: Tensor = model(tokens, use_cache=False).logits
    return logits


def assert_same_logits(model: Any, exported: Exported) -> None:
    """Check a model loaded from an export against the scored candidate."""
    assert_close(logits_of(model, exported.tokens), exported.expected)
