"""How an export is served beside the dense model: measured in its runtime, in a fresh process."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from evaluators.costs.latency import predict
from evaluators.latency.latency_setting import ServingRuntime
from evaluators.latency.workload import Latency, Workload
from evaluators.runtime.device import pick_device, pick_dtype, processor_name
from planner.export.cards.manifest import Divergence, Perplexity, Prediction, Service
from planner.export.pipeline import Staged
from planner.export.plan_formats import cache_format_of
from planner.preparation.dense_model import DenseModel
from planner.preparation.latency_tables import check_request, workload
from planner.settings.search import SearchSettings
from planner.targets.hf.belongings import files_of
from planner.targets.served_stacks import describe_runtime
from planner.targets.target import Target
from planner.targets.target_names import TargetChoice
from planner.targets.trial import ServiceRequest
from search_spaces.errors import SettingsError, TargetError
from search_spaces.space.configuration import Configurations, dense_configurations
from search_spaces.space.plan import Plan
from search_spaces.structure.backbone import position_count

logger = logging.getLogger(__name__)

_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".onnx.data", ".onnx_data")
"""Endings of files that hold weights."""
_CACHE_TYPE = "cache_type"
"""Option of a target that is the plan's, and not the dense model's."""


def served_choice(
    choice: TargetChoice, plan: Plan, dense: DenseModel, settings: SearchSettings
) -> TargetChoice:
    """Return a target that is served as on this machine, and as a plan says.

    That is on the device and in the dtype of a run's latency table, or of scoring without one; in
    llama.cpp with keys and values in the plan's number format.
    """
    if choice.name == "gguf" and (cache := cache_format_of(plan)):
        return TargetChoice(name=choice.name, options=choice.options | {_CACHE_TYPE: cache})
    if choice.name != "hf":
        return choice
    device = pick_device(settings.device)
    table = dense.costs.table
    dtype = (
        table.setting.runtime.dtype
        if table is not None and table.setting.runtime.name == "torch"
        else pick_dtype(settings.dtype, device)
    )
    served = {"device": device, "dtype": str(dtype).removeprefix("torch.")}
    if settings.trust_remote_code:
        served["trust_remote_code"] = "true"
    return TargetChoice(name=choice.name, options=served | choice.options)


def service_of(
    target: Target,
    staged: Staged,
    dense: DenseModel,
    configurations: Configurations,
    settings: SearchSettings,
    windows: NDArray[np.int_],
) -> Service:
    """Measure an export beside the dense model.

    If the run has a latency table of this runtime, it is told how far that was off. An export that
    was proved is not lost to a request that no memory holds: it goes without latency.

    Args:
        target: Of the export.
        staged: What was written and proved.
        dense: The dense model; its costs know the run's latency table if there is one.
        configurations: What is kept of each component, ``(components,)``.
        settings: Of the run: the request to time.
        windows: Token ids ``(windows, tokens)`` of held-out text; there may be none.
    """
    asked = workload(settings).fitted(position_count(dense.loaded.model))
    request: Workload | None = asked
    missing = ""
    scratch = staged.scratch / "dense"
    scratch.mkdir()
    folders = {
        "dense": target.dense_folder(scratch, dense.structure, dense.loaded),
        "pruned": staged.folder,
    }
    try:
        check_request(dense, asked)
    except SettingsError:
        request = None
    options = {name: each for name, each in target.choice.options.items() if name != _CACHE_TYPE}
    arguments: dict[str, Any] = {
        "target": target.choice,
        "folders": folders,
        "others": {"dense": TargetChoice(name=target.name, options=options)},
        "threads": staged.threads,
    }
    try:
        answer = staged.process.serve(ServiceRequest(workload=request, **arguments), windows)
    except MemoryError:
        request = None
        answer = staged.process.serve(ServiceRequest(workload=None, **arguments), windows)
    except TargetError as error:
        missing = str(error)
        answer = staged.process.serve(ServiceRequest(workload=None, **arguments), windows)
    if request is None:
        missing = f"a request ({asked}) does not fit into memory"
    if missing:
        logger.warning("latency is not measured, for %s; the export is whole without it", missing)
    return Service(
        runtime=target.runtime,
        runtime_version=target.runtime_version,
        served_as=target.choice.options,
        device=_device_name(target),
        threads=staged.threads,
        perplexity={name: Perplexity.of(nll) for name, nll in answer.nll.items() if nll},
        kl=Divergence.of(answer.kl["pruned"]) if answer.kl["pruned"] else None,
        file_bytes={name: _file_bytes(files_of(str(f))) for name, f in folders.items()},
        workload=asked,
        latency=answer.latency,
        latency_missing=missing,
        prediction=_prediction(target, dense, configurations, asked, answer.latency),
    )


def _file_bytes(folder: Path | None) -> int:
    """Return the bytes of all files of weights in a folder; 0 if it is not at hand."""
    if folder is None:
        return 0
    return sum(path.stat().st_size for end in _WEIGHTS for path in folder.glob(f"*{end}"))


def _device_name(target: Target) -> str:
    device = target.choice.options.get("device", "cpu")
    return processor_name() if device == "cpu" else torch.cuda.get_device_name(device)


def _is_timed_so(runtime: ServingRuntime, target: Target, dense: DenseModel) -> bool:
    """Return whether a table is of the runtime, and of the number format, of a target."""
    if runtime.name == "torch":
        return target.runtime == "torch" and target.choice.options.get("dtype") == runtime.dtype
    stored = dense.loaded.stored_dtype
    return runtime == describe_runtime(runtime.name, target, stored, runtime.threads)


def _prediction(
    target: Target,
    dense: DenseModel,
    configurations: Configurations,
    request: Workload,
    latency: dict[str, Latency],
) -> Prediction | None:
    """Return what the run's latency table predicts; none without one of this runtime."""
    table = dense.costs.table
    if table is None or not latency or not _is_timed_so(table.setting.runtime, target, dense):
        return None
    pair = np.stack([dense_configurations(dense.structure.components), configurations])
    latencies = predict(dense.structure, dense.costs.block_options, table, pair)
    predicted = dict(zip(("dense", "pruned"), latencies, strict=True))
    return Prediction.compared(predicted, latency, request)
