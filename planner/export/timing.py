"""How fast an exported model is beside the dense one, and what was predicted of it."""

import logging
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from evaluators.costs.latency import predict
from evaluators.latency.latency_table import Device
from evaluators.latency.measure import Latency, Workload
from evaluators.runtime.device import pick_device
from planner.export.manifest import Prediction
from planner.preparation.dense_model import DenseModel
from planner.preparation.latency_tables import fitting, workload
from planner.settings.search import SearchSettings
from planner.targets.hf.exporter import HuggingFaceExporter
from search_spaces.errors import SettingsError
from search_spaces.space.configuration import Configurations, dense_configurations

logger = logging.getLogger(__name__)


def timing_of(
    exporter: HuggingFaceExporter,
    exported: PreTrainedModel,
    dense: DenseModel,
    configurations: Configurations,
    settings: SearchSettings,
) -> dict[str, Any]:
    """Return the manifest's fields on latency: of both models, measured end to end in turns.

    If the run has a latency table, this is on its device and in its dtype. An export that was
    proved is not lost to a request that no memory holds: it goes without latency.
    """
    table, placement = dense.costs.table, None
    if table is not None:  # both are proved by now, and needed for nothing else
        placement = pick_device(settings.device), getattr(torch, table.setting.dtype)
    request = workload(settings).fitted(exported)
    latency: dict[str, Latency] = {}
    missing = ""
    try:
        with fitting(dense, request):
            latency = exporter.time(exported, request, placement)
    except SettingsError:
        missing = f"a request ({request}) does not fit into memory"
        logger.warning("latency is not measured, for %s; the export is whole without it", missing)
    return {
        "workload": request,
        "latency_dtype": str(exported.dtype).removeprefix("torch."),
        "latency_device": Device.here(exported.device).name,
        "latency": latency,
        "latency_missing": missing,
        "prediction": _prediction(dense, configurations, request, latency) if latency else None,
    }


def _prediction(
    dense: DenseModel,
    configurations: Configurations,
    request: Workload,
    latency: dict[str, Latency],
) -> Prediction | None:
    """Return what the run's latency table predicts; none without one."""
    table = dense.costs.table
    if table is None:
        return None
    pair = np.stack([dense_configurations(dense.structure.components), configurations])
    latencies = predict(dense.structure, dense.costs.block_options, table, pair)
    predicted = dict(zip(("dense", "pruned"), latencies, strict=True))
    return Prediction.compared(predicted, latency, request)
