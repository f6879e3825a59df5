"""Latency tables on disk: one for each setting in the user's cache, and one in each run."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from evaluators.latency.latency_setting import Device, ServingRuntime, Setting
from evaluators.latency.latency_table import LatencyTable
from evaluators.latency.layer_benchmark import measure_table
from evaluators.latency.measure import least_bytes
from evaluators.latency.stack_timer import StackTimer, TorchStackTimer
from evaluators.latency.workload import Workload
from evaluators.runtime.device import pick_device
from planner.preparation.dense_model import DenseModel
from planner.runs.folder import LATENCY_FILE
from planner.settings.search import SearchSettings
from planner.targets.served_stacks import ServedStackTimer, describe_runtime, serving_choice
from planner.targets.target import Target
from search_spaces.atomic_files import atomic_write_text, writing
from search_spaces.errors import LatencyError, OutputError, SettingsError
from search_spaces.models.gguf import cache_folder
from search_spaces.models.memory import available_bytes, is_out_of_memory
from search_spaces.progress import Progress
from search_spaces.structure.backbone import position_count
from search_spaces.structure.model import ModelStructure

logger = logging.getLogger(__name__)


def workload(settings: SearchSettings) -> Workload:
    """Return the request that settings describe."""
    return Workload(
        batch_size=settings.batch_size,
        prompt_tokens=settings.prompt_tokens,
        new_tokens=settings.new_tokens,
    )


def check_runtime(settings: SearchSettings) -> None:
    """Refuse to measure in a runtime that is not installed.

    Raises:
        MissingExtraError: If it is not.
    """
    if choice := serving_choice(settings.runtime):
        choice.make().check_installed()


def find_table(
    dense: DenseModel, settings: SearchSettings, folder: Path, progress: Progress
) -> LatencyTable:
    """Return the latency table of a model on its device: the run's, a cached one, or a new one.

    Args:
        dense: The model, on the device and in the dtype that it is scored in.
        settings: Of the search: the workload and the runtime that the table is for.
        folder: Of the run, which gets a copy.
        progress: Receives stages and progress.

    Raises:
        LatencyError: If the run's own table is damaged or another device's; both are named.
        SettingsError: If the workload is longer than the model reads.
        OutputError: If a table cannot be written.
    """
    request = workload(settings)
    _check_length(dense.structure, request)
    if dense.structure.backbone.streamed:
        raise LatencyError(
            "latency can be measured only of a model that fits into memory, and this one is "
            "streamed from disk; leave latency and throughput out of the budget"
        )
    run_path = folder / LATENCY_FILE
    setting = _setting(dense, settings)
    if run_path.is_file():
        run_table = LatencyTable.load(run_path)
        run_table.check(run_path, setting)
        return run_table
    cache_path = _cache_path(setting)
    table = _cached(cache_path, setting) if cache_path else None
    if table is None:
        progress.stage(f"measuring latency on this device ({request}, {setting.runtime})")
        with fitting(dense, request), stack_timer(dense, settings) as timer:
            table = measure_table(dense.structure, timer, progress, dense.costs.block_options)
        if cache_path:
            _save(table, cache_path)
    atomic_write_text(run_path, table.to_json())
    return table


def read_table(dense: DenseModel, settings: SearchSettings, folder: Path) -> LatencyTable | None:
    """Return the latency table of a run, on the device that it was searched on.

    Args:
        dense: The run's model, in any dtype and on any device.
        settings: The run's.
        folder: The run's.

    Returns:
        `None` if the folder holds no table.

    Raises:
        LatencyError: If the table is damaged, another model's, device's or runtime's.
        MissingExtraError: If the runtime is not installed.
    """
    path = folder / LATENCY_FILE
    if not path.is_file():
        return None
    table, setting = LatencyTable.load(path), _setting(dense, settings)
    if settings.runtime == "torch":  # as the search had it, wherever the model is now
        device = Device.here(torch.device(pick_device(settings.device)))
        runtime = setting.runtime.model_copy(update={"dtype": table.setting.runtime.dtype})
        setting = setting.model_copy(update={"device": device, "runtime": runtime})
    table.check(path, setting)
    return table


@contextmanager
def stack_timer(dense: DenseModel, settings: SearchSettings) -> Iterator[StackTimer]:
    """Make what times stacks of a model's layers in the runtime of a search.

    Raises:
        MissingExtraError: If that is not installed.
        SettingsError: If it cannot hold such a model, or not such stacks.
    """
    choice, request = serving_choice(settings.runtime), workload(settings)
    if choice is None:
        yield TorchStackTimer(dense.structure, request)
        return
    target, runtime = choice.make(), _runtime(dense, settings)
    _check_stacks(target, dense, settings)
    with tempfile.TemporaryDirectory(prefix="planner-stacks-") as scratch:
        yield ServedStackTimer(
            target,
            runtime,
            dense.structure,
            dense.loaded,
            request,
            scratch=Path(scratch),
        )


def _check_stacks(target: Target, dense: DenseModel, settings: SearchSettings) -> None:
    """Refuse a model whose layers cannot be timed with one component each.

    Raises:
        SettingsError: If it is one.
    """
    holds = target.holds(dense.structure, dense.loaded.tokenizer)
    reason = holds.refuses_model
    if not reason and holds.whole_layers:
        reason = "of this family it holds layers whole, and not an attention or an MLP alone"
    if reason:
        raise SettingsError(
            f"`runtime` must be one that parts of this model can be timed in, and "
            f"{settings.runtime} is not: {reason}; set `--runtime torch`, or limit another cost"
        )


def _setting(dense: DenseModel, settings: SearchSettings) -> Setting:
    """Return what a table of a model must be valid for."""
    return Setting.of(
        dense.structure, workload(settings), dense.costs.block_options, _runtime(dense, settings)
    )


def _runtime(dense: DenseModel, settings: SearchSettings) -> ServingRuntime:
    """Describe what runs the model."""
    choice = serving_choice(settings.runtime)
    if choice is None:
        return ServingRuntime.torch_of(dense.loaded.model)
    return describe_runtime(
        settings.runtime, choice.make(), dense.loaded.stored_dtype, torch.get_num_threads()
    )


def _cache_path(setting: Setting) -> Path | None:
    """Return where the table of a setting is cached, or `None` for a user without a home."""
    try:
        return cache_folder() / "latency" / f"{setting.digest}.json"
    except OutputError:
        return None


def _save(table: LatencyTable, path: Path) -> None:
    """Write a table to the cache, if it can be: it only saves time."""
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(path, table.to_json())
    except OutputError as error:
        logger.info("latency is measured again by the next run: %s", error)


def check_request(dense: DenseModel, request: Workload) -> None:
    """Refuse a request that no memory holds.

    Raises:
        SettingsError: If it takes more than there is.
    """
    least, available = _memory_of(dense, request)
    if least > available:
        raise _too_large(dense, request)


@contextmanager
def fitting(dense: DenseModel, request: Workload) -> Iterator[None]:
    """Refuse a request that no memory holds, before it is measured or when memory runs out.

    Raises:
        SettingsError: If there is too little.
    """
    check_request(dense, request)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise _too_large(dense, request) from error
        raise


def _memory_of(dense: DenseModel, request: Workload) -> tuple[float, int]:
    """Return the bytes that a request takes at least, and those that are available."""
    model = dense.loaded.model
    least = least_bytes(model, request, dense.costs.dense()["kv"])
    return least, available_bytes(str(model.device))


def _too_large(dense: DenseModel, request: Workload) -> SettingsError:
    least, available = _memory_of(dense, request)
    return SettingsError(
        "`batch_size` times `prompt_tokens` and `new_tokens` must fit into memory, got "
        f"{request.batch_size} times {request.prompt_tokens} and {request.new_tokens}, which take "
        f"{least / 1e9:.3g} GB or more of {available / 1e9:.3g}; lower one of them"
    )


def _cached(path: Path, setting: Setting) -> LatencyTable | None:
    """Return the cached table of a setting, or `None` if it is missing or of no use."""
    try:
        table = LatencyTable.load(path)
    except LatencyError:  # missing, or damaged: it is measured again
        return None
    return table if table.setting == setting else None


def _check_length(structure: ModelStructure, request: Workload) -> None:
    tokens = request.prompt_tokens + request.new_tokens
    longest = position_count(structure.backbone.model)
    if longest is not None and tokens > longest:
        raise SettingsError(
            f"`prompt_tokens` and `new_tokens` must be at most the {longest} positions of the "
            f"model together, got {tokens}; lower one of them"
        )
