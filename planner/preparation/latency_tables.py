"""Latency tables on disk: one for each setting in the user's cache, and one in each run."""

from pathlib import Path

import torch

from evaluators.latency.latency_table import Device, LatencyTable, Setting
from evaluators.latency.layer_benchmark import measure_table
from evaluators.latency.measure import Workload
from evaluators.runtime.device import pick_device
from planner.preparation.dense_model import DenseModel
from planner.runs.folder import LATENCY_FILE
from planner.settings.search import SearchSettings
from search_spaces.atomic_files import atomic_write_text, writing
from search_spaces.errors import LatencyError, SettingsError
from search_spaces.models.gguf import cache_folder
from search_spaces.progress import Progress
from search_spaces.structure.backbone import position_count
from search_spaces.structure.model import ModelStructure


def workload(settings: SearchSettings) -> Workload:
    """Give the request that a user's settings describe."""
    return Workload(
        batch_size=settings.batch_size,
        prompt_tokens=settings.prompt_tokens,
        new_tokens=settings.new_tokens,
    )


def find_table(
    dense: DenseModel, wanted: Workload, folder: Path, progress: Progress
) -> LatencyTable:
    """Give the latency table of a model on its device: the run's, a kept one, or a new one.

    Args:
        dense: The model, where and as it is scored.
        wanted: What the table is for.
        folder: Of the run, which keeps a copy.
        progress: Told of progress.

    Raises:
        LatencyError: Where the run's own table is damaged or another device's; both are named.
        SettingsError: Where the workload is longer than the model reads.
        OutputError: Where a table cannot be written.
    """
    structure, block_options = dense.structure, dense.costs.block_options
    _check_length(structure, wanted)
    if structure.backbone.streamed:
        raise LatencyError(
            "latency can be measured only of a model that fits into memory, and this one is "
            "streamed from disk; leave latency and throughput out of the budget"
        )
    own = folder / LATENCY_FILE
    setting = Setting.of(structure, wanted, block_options)
    if own.is_file():
        found = LatencyTable.load(own)
        found.check(own, setting)
        return found
    kept = cache_folder() / "latency" / f"{setting.digest}.json"
    table = _kept(kept, setting)
    if table is None:
        progress.stage(f"measuring latency on this device ({wanted})")
        table = measure_table(structure, wanted, progress, block_options)
        with writing(kept):
            kept.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(kept, table.to_json())
    atomic_write_text(own, table.to_json())
    return table


def read_table(dense: DenseModel, settings: SearchSettings, folder: Path) -> LatencyTable | None:
    """Give the latency table of a run, on the device that it was searched on.

    Args:
        dense: The run's model, in any dtype and place.
        settings: The run's.
        folder: The run's; without a table in it there is none.

    Raises:
        LatencyError: Where the table is damaged, another model's or another device's.
    """
    own = folder / LATENCY_FILE
    if not own.is_file():
        return None
    table = LatencyTable.load(own)
    table.check_device(own, Device.here(torch.device(pick_device(settings.device))))
    here = Setting.of(dense.structure, workload(settings), dense.costs.block_options)
    unplaced = {"device": table.setting.device, "dtype": table.setting.dtype}
    table.check(own, here.model_copy(update=unplaced))
    return table


def _kept(path: Path, setting: Setting) -> LatencyTable | None:
    """Give the table that was kept for a setting; none where it is missing or of no use."""
    try:
        table = LatencyTable.load(path)
    except LatencyError:  # missing, or damaged: it is measured anew
        return None
    return table if table.setting == setting else None


def _check_length(structure: ModelStructure, wanted: Workload) -> None:
    tokens = wanted.prompt_tokens + wanted.new_tokens
    longest = position_count(structure.backbone.model)
    if longest is not None and tokens > longest:
        raise SettingsError(
            f"`prompt_tokens` and `new_tokens` must be at most the {longest} positions of the "
            f"model together, got {tokens}; lower one of them"
        )
