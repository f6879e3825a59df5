"""What a latency table is valid for: the device, the runtime, the workload and the model."""

import hashlib
import os
import platform
from collections.abc import Sequence
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn
from transformers import PreTrainedModel

from evaluators.latency.workload import Workload
from evaluators.runtime import IN_FORMATS, RuntimeName
from evaluators.runtime.device import processor_name
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import SOURCE, STORED, NumberFormat
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure

# layers that differ in their number only are of one kind
_NUMBERS = ("layer_idx", "layer_index", "layer_id", "layer_number")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Device(_Frozen):
    """Device of a measurement."""

    name: str
    core_count: int
    platform: str

    @classmethod
    def here(cls, device: torch.device) -> Self:
        """Describe a device of this machine."""
        processor = processor_name() or platform.machine()
        name = processor if device.type == "cpu" else f"{device.type} beside {processor}"
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        return cls(name=name, core_count=os.cpu_count() or 1, platform=platform.system())

    def __str__(self) -> str:
        return f"{self.name} ({self.core_count} cores, {self.platform})"


class ServingRuntime(_Frozen):
    """What ran the model."""

    name: RuntimeName
    version: str
    threads: int
    """That it computes with on the CPU."""
    dtype: str
    """Number format of the weights, or type of the file."""
    attention: str | None = None
    """Implementation of attention; None: the runtime has one only."""

    @classmethod
    def torch_of(cls, model: PreTrainedModel) -> Self:
        """Describe how torch runs a model in this process."""
        return cls(
            name="torch",
            version=torch.__version__,
            threads=torch.get_num_threads(),
            dtype=str(model.dtype).removeprefix("torch."),
            attention=str(model.config._attn_implementation),
        )

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        attention = f", {self.attention} attention" if self.attention else ""
        return f"{self.name} {self.version} in {self.dtype} with {threads}{attention}"


class Setting(_Frozen):
    """What a table is valid for; two tables of one setting are interchangeable."""

    device: Device
    runtime: ServingRuntime
    workload: Workload
    shapes: str
    """Hash of what determines the model's speed: its class, its layers and their shapes."""
    thinned: str | None = None
    """Timed numbers of running experts and of their channels; None: only the dense ones."""
    formats: str | None = None
    """Timed number formats; None: that of the dense model alone."""

    @classmethod
    def of(
        cls,
        structure: ModelStructure,
        workload: Workload,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        runtime: ServingRuntime | None = None,
    ) -> Self:
        """Describe a model on its device.

        Args:
            structure: The model.
            workload: What is timed.
            block_options: For each component its options; None: the dense one only.
            runtime: What runs it: torch where the model is, any other on the CPU; None: torch.
        """
        model = structure.backbone.model
        runtime = runtime or ServingRuntime.torch_of(model)
        formats = timed_formats(structure.components, block_options or (), runtime.name)
        grids = [
            f"{experts_run} of {channels}"
            for component, options in zip(structure.components, block_options or (), strict=False)
            for experts_run, channels in [timed_inside(component, options)]
            if len(experts_run) * len(channels) > 1
        ]
        return cls(
            device=Device.here(model.device if runtime.name == "torch" else torch.device("cpu")),
            runtime=runtime,
            workload=workload,
            shapes=_shapes(structure),
            thinned="; ".join(dict.fromkeys(grids)) or None,
            formats=", ".join(each.name for each in formats) or None,
        )

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the setting."""
        return digest_of(self)


def digest_of(content: BaseModel) -> str:
    """Return sixteen hexadecimal digits that identify settings or measurements."""
    text = content.model_dump_json(exclude_none=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def timed_inside(
    component: Component, block_options: Sequence[BlockOptions]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the numbers of running members, and of their channels, at which a component is timed.

    Args:
        component: Of the dense model.
        block_options: Its options, the dense ones among them.

    Returns:
        Both ascending: the lowest, the middle and the dense value; 0 alone where all members run,
        and where they have no channels of their own.
    """
    top_ks = sorted({options.top_k or component.top_k for options in block_options})
    channels = sorted({options.channels or component.channel_count for options in block_options})
    return _three_of(top_ks), _three_of(channels)


def timed_formats(
    components: Sequence[Component],
    block_options: Sequence[Sequence[BlockOptions]],
    runtime: RuntimeName,
) -> tuple[NumberFormat, ...]:
    """Return the number formats that some components are timed in, besides the dense model's.

    What is to stay as it came from a file is not: it counts as what the dense model is stored in.

    Args:
        components: Of a model.
        block_options: Of each of them; empty: the dense ones alone.
        runtime: That times them.
    """
    if runtime not in IN_FORMATS:
        return ()
    found = (
        options.format
        for _, of_one in zip(components, block_options, strict=False)
        for options in of_one
    )
    return tuple(dict.fromkeys(each for each in found if each not in (STORED, SOURCE)))


def _three_of(values: Sequence[int]) -> tuple[int, ...]:
    """Return the first, the middle and the last of ascending values, each once."""
    return tuple(sorted({values[0], values[len(values) // 2], values[-1]}))


def layer_kinds(structure: ModelStructure) -> list[tuple[int, ...]]:
    """Return the positions of the layers of each kind; those of one kind take the same time."""
    kinds: dict[str, list[int]] = {}
    for index, layer in enumerate(structure.backbone.layers):
        kinds.setdefault(_signature(layer), []).append(index)
    return [tuple(indices) for indices in kinds.values()]


def _shapes(structure: ModelStructure) -> str:
    model = structure.backbone.model
    words = [type(model).__name__]
    words += [f"{name} {tuple(weight.shape)}" for name, weight in model.named_parameters()]
    words += [_signature(layer) for layer in structure.backbone.layers]
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def _signature(layer: nn.Module) -> str:
    """Describe what determines a layer's speed: shapes, and switches such as a sliding window."""
    words = [f"{name} {tuple(weight.shape)}" for name, weight in layer.named_parameters()]
    for path, module in layer.named_modules():
        words += [
            f"{path}.{name}={value}"
            for name, value in sorted(vars(module).items())
            if isinstance(value, int | str | None) and name not in _NUMBERS
        ]
    return "\n".join(words)
