"""Timing stacks of a model's layers where they are served: written by a target, run there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from evaluators.latency.latency_setting import ServingRuntime
from evaluators.latency.stack_cases import StackCase
from evaluators.latency.stack_timer import Times
from evaluators.latency.workload import Latency, Workload
from evaluators.runtime import RuntimeName
from planner.targets.cut_layers import CutLayers, Matrices
from planner.targets.fresh_process import fresh_process
from planner.targets.target import Target
from planner.targets.target_names import TargetChoice
from planner.targets.trial import ServiceRequest
from search_spaces.models.loading import LoadedModel
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.block_options import DENSE_EXPERTS
from search_spaces.space.number_format import STORED, NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut

TURNS = 2
"""Requests that are timed each time, of which the median is taken."""
NOTHING_TO_READ = np.zeros((0, 2), dtype=np.int_)
"""No windows of text."""


def serving_choice(runtime: RuntimeName) -> TargetChoice | None:
    """Return the target whose models a runtime serves; None: torch runs them as they are."""
    match runtime:
        case "torch":
            return None
        case "llama.cpp":
            return TargetChoice(name="gguf")
        case "onnxruntime":
            return TargetChoice(name="onnx")


def describe_runtime(
    runtime: RuntimeName, target: Target, stored: torch.dtype, threads: int
) -> ServingRuntime:
    """Describe how a target's models are served on the CPU.

    Args:
        runtime: That serves them.
        target: That writes them.
        stored: Number format of the dense model on disk.
        threads: That the runtime may compute with.
    """
    options = [f"{name} {value}" for name, value in sorted(target.choice.options.items())]
    # a graph is written in float32 whatever the source is in, a file as the source is
    written = torch.float32 if runtime == "onnxruntime" else stored
    return ServingRuntime(
        name=runtime,
        version=target.runtime_version,
        threads=threads,
        dtype=", ".join(options) or str(written).removeprefix("torch."),
    )


class ServedStackTimer:
    """Writes each stack once, and times it as it is served.

    Args:
        target: That writes what its runtime serves.
        runtime: The same as `describe_runtime` has it.
        structure: The dense model.
        loaded: The same as it was loaded.
        workload: What is timed.
        scratch: An empty folder with room for the model and its stacks.
    """

    bare_layers = False

    def __init__(
        self,
        target: Target,
        runtime: ServingRuntime,
        structure: ModelStructure,
        loaded: LoadedModel,
        workload: Workload,
        *,
        scratch: Path,
    ) -> None:
        self.runtime = runtime
        self.workload = workload
        self._target = target
        self._structure = structure
        self._loaded = loaded
        self._scratch = scratch
        self._folders: dict[StackCase | None, Path] = {}

    def time_dense(self) -> Times:
        return self._time(None)

    def time(self, case: StackCase) -> Times:
        return self._time(case)

    def _time(self, case: StackCase | None) -> Times:
        """Time a stack; None: the dense model."""
        if case not in self._folders:
            self._folders[case] = self._written(case)
        folder, threads = self._folders[case], self.runtime.threads
        latency = time_folder(self._target, folder, self.workload, threads=threads)
        return np.array([latency.prefill_ms, latency.decode_ms])

    def _written(self, case: StackCase | None) -> Path:
        folder = self._scratch / str(len(self._folders))
        folder.mkdir()
        if case is None:
            return self._target.dense_folder(folder, self._structure, self._loaded)
        self._target.write(folder, stacked(self._structure, case), self._loaded, None)
        return folder


def time_folder(target: Target, folder: Path, workload: Workload, *, threads: int) -> Latency:
    """Time what a target wrote, in a process that holds nothing else.

    Raises:
        VerificationError: If the runtime does not take it.
    """
    request = ServiceRequest(
        target=target.choice,
        folders={"stack": folder},
        threads=threads,
        workload=workload,
        turns=TURNS,
    )
    return fresh_process(target).serve(request, NOTHING_TO_READ).latency["stack"]


def stacked(structure: ModelStructure, case: StackCase) -> CutLayers:
    """Cut the layers of a stack to its widths, and drop all others."""
    chosen = []
    for index, layer in enumerate(structure.layers):
        dropped = StackCase(layers=(), kept=(0,) * len(layer.components))
        chosen.append((case if index in case.layers else dropped).of_layer(layer.components))
    layers = tuple(
        cut(
            dense,
            [(component, kept) for component, kept, _ in components],
            insides=[inside for _, _, inside in components],
        )
        for dense, components in zip(structure.backbone.layers, chosen, strict=True)
    )
    in_formats = tuple(
        _in_format(layer, [c for c, kept, _ in components if len(kept)], case.options.format)
        for layer, components in zip(layers, chosen, strict=True)
    )
    return CutLayers(
        structure=structure,
        layers=layers,
        kept=(
            *(kept for components in chosen for _, kept, _ in components),
            *(np.arange(1) for _ in structure.ends),
        ),
        insides=(
            *(inside for components in chosen for _, _, inside in components),
            *(DENSE_EXPERTS for _ in structure.ends),
        ),
        quantized=in_formats if any(in_formats) else (),
        quantized_ends=_in_format(structure.backbone.model, structure.ends, case.ends),
    )


def _in_format(
    owner: nn.Module, components: Sequence[Component], number_format: NumberFormat
) -> Matrices:
    """Return the matrices of some components of a module in a number format, by their paths."""
    if number_format == STORED:
        return {}
    matrices = {}
    for component in components:
        for weight in component.unit_weights(owner):
            held = number_format.held(weight.tensor.shape[-1])
            if weight.role == "matrix" and held != STORED:
                rows = weight.tensor.detach().float().cpu().reshape(-1, weight.tensor.shape[-1])
                data = codec_of(held).encode(rows).reshape(*weight.tensor.shape[:-1], -1)
                matrices[component.tensor_path(weight.path)] = QuantizedMatrix(held, data)
    return matrices
