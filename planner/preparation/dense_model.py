"""The dense model: loaded, its structure read, its costs known."""

import logging
from dataclasses import dataclass
from typing import get_args

from evaluators.costs.cost_model import CostModel
from evaluators.runtime import DTypeName
from evaluators.runtime.allocator import keep_pages
from evaluators.runtime.device import describe_dtype, pick_device, pick_dtype
from planner.preparation.pruning_methods import PruningMethods
from planner.preparation.space_of_settings import (
    options_of_settings,
    sources_of,
    with_formats,
)
from planner.settings.search import SearchSettings
from planner.targets.loads_in import holds_in, stored_in
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.progress import Progress
from search_spaces.reading.read import check_exportable, read_structure
from search_spaces.space.holds import HOLDS_ALL, Holds
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DenseModel:
    """A dense model whose structure and costs are known."""

    loaded: LoadedModel
    structure: ModelStructure
    costs: CostModel
    holds: Holds = HOLDS_ALL
    """What can be held of it where plans must load."""


def arithmetic_of(dense: DenseModel) -> str:
    """Return the number format and the device that a model computes in."""
    return f"{dense.loaded.model.dtype} on {dense.loaded.model.device}"


def as_begun(settings: SearchSettings, arithmetic: str | None) -> SearchSettings:
    """Return settings with the number format that a run began with, where they say ``auto``.

    It is measured, and where formats are about as fast another one may be found each time.

    Args:
        settings: Of the run.
        arithmetic: What `arithmetic_of` returned as it began; None: it has not.
    """
    dtype, _, device = (arithmetic or "").removeprefix("torch.").partition(" on ")
    if settings.dtype != "auto" or dtype not in get_args(DTypeName):
        return settings
    here = pick_device(settings.device)
    if device.partition(":")[0] != here.partition(":")[0]:
        return settings  # another kind of device has a format of its own
    return settings.model_copy(update={"dtype": dtype})


def scoring_note(settings: SearchSettings, arithmetic: str | None = None) -> str:
    """Return which number format plans are scored in, and why.

    Args:
        settings: Of the search.
        arithmetic: As for `as_begun`.
    """
    if as_begun(settings, arithmetic) != settings:
        return f"scoring in {str(arithmetic).removeprefix('torch.')} (auto: as the run began)"
    return f"scoring in {describe_dtype(settings.dtype, pick_device(settings.device))}"


def open_model(settings: SearchSettings, progress: Progress) -> DenseModel:
    """Load a model and read its structure.

    Raises:
        ModelError: If it cannot be loaded or read.
    """
    gguf_note = " (a GGUF file is unpacked the first time: a minute)"
    is_gguf = settings.model.endswith(".gguf")
    progress.stage(f"loading {settings.model}{gguf_note if is_gguf else ''}")
    device = pick_device(settings.device)
    loaded = load_model(
        settings.model,
        dtype=pick_dtype(settings.dtype, device),
        device=device,
        trust_remote_code=settings.trust_remote_code,
        offload=settings.offload,
        verify=settings.verify,
    )
    if loaded.stream:
        keep_pages()  # each layer takes the place of the last: reading it costs a fifth
        logger.info("its layers stay on disk, and each is read when it is used")
    progress.stage("reading its structure")
    check_exportable(loaded.model)
    structure = read_structure(loaded.model, loaded.stream)
    if settings.space.formats:
        structure = structure.with_ends()
    holds = holds_in(settings.loads_in, structure, loaded.tokenizer)
    holds = with_formats(holds, loaded, structure, settings)
    costs = cost_model(loaded, structure, settings, holds)
    return DenseModel(loaded=loaded, structure=structure, costs=costs, holds=holds)


def cost_model(
    loaded: LoadedModel,
    structure: ModelStructure,
    settings: SearchSettings,
    holds: Holds = HOLDS_ALL,
) -> CostModel:
    """Return what counts the exact costs of the plans that settings allow."""
    return CostModel(
        structure,
        stored=stored_in(settings.loads_in, structure, loaded.stored),
        context=settings.window_tokens,
        block_options=options_of_settings(structure, settings, holds),
        sources=sources_of(loaded) if settings.space.formats else None,
        adds_bias=PruningMethods.of(settings, structure).adds_bias,
    )
