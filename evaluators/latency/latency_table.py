"""The latency table: times of one model's parts on one device, for one workload."""

import hashlib
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import nn

from evaluators.latency.measure import Latency, Workload
from evaluators.runtime.device import processor_name
from search_spaces.errors import LatencyError
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component, ComponentKind
from search_spaces.structure.model import ModelStructure

# layers that differ in their number only are of one kind
_NUMBERS = ("layer_idx", "layer_index", "layer_id", "layer_number")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Device(_Frozen):
    """Device and software of a measurement."""

    name: str
    core_count: int
    threads: int
    """That torch computes with on the CPU."""
    platform: str
    torch_version: str

    @classmethod
    def here(cls, device: torch.device) -> Self:
        """Describe a device of this machine."""
        processor = processor_name() or platform.machine()
        name = processor if device.type == "cpu" else f"{device.type} beside {processor}"
        if device.type == "cuda":
            name = torch.cuda.get_device_name(device)
        return cls(
            name=name,
            core_count=os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            platform=platform.system(),
            torch_version=torch.__version__,
        )

    def __str__(self) -> str:
        return (
            f"{self.name} ({self.core_count} cores, {self.threads} threads, {self.platform}, "
            f"torch {self.torch_version})"
        )


class Setting(_Frozen):
    """What a table is valid for; two tables of one setting are interchangeable."""

    device: Device
    dtype: str
    workload: Workload
    shapes: str
    """Hash of what determines the model's speed: its class, its layers and their shapes."""
    thinned: str | None = None
    """Timed numbers of running experts and of their channels; None: only the dense ones."""

    @classmethod
    def of(
        cls,
        structure: ModelStructure,
        workload: Workload,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
    ) -> Self:
        """Describe a model on its device.

        Args:
            structure: The model.
            workload: What is timed.
            block_options: For each component its options; None: the dense one only.
        """
        model = structure.backbone.model
        grids = [
            f"{experts_run} of {channels}"
            for component, options in zip(structure.components, block_options or (), strict=False)
            for experts_run, channels in [timed_inside(component, options)]
            if len(experts_run) * len(channels) > 1
        ]
        return cls(
            device=Device.here(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            workload=workload,
            shapes=_shapes(structure),
            thinned="; ".join(dict.fromkeys(grids)) or None,
        )

    def __str__(self) -> str:
        return f"shapes {self.shapes} in {self.dtype} at {self.workload}"

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the setting."""
        return _digest(self)


def _check_whole(latencies: Sequence[Latency], *axes: Sequence[int]) -> None:
    if any(not axis or sorted(set(axis)) != list(axis) for axis in axes):
        raise ValueError("what was timed must ascend")
    if len(latencies) != math.prod(map(len, axes)):
        raise ValueError("each combination must have its latency")


class Curve(_Frozen):
    """A layer that keeps one component only, at some widths."""

    counts: tuple[int, ...]
    """Units kept, ascending, the last all."""
    latencies: tuple[Latency, ...]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _check_whole(self.latencies, self.counts)
        return self


class Grid(_Frozen):
    """A layer that keeps one component only, over its units, how many run, and their width."""

    counts: tuple[int, ...]
    """Units kept, ascending, the last all."""
    top_ks: tuple[int, ...]
    """Members that run for a token, ascending, the last as many as in the dense model."""
    channels: tuple[int, ...]
    """Of each member, ascending, the last all."""
    latencies: tuple[Latency, ...]
    """Of all combinations, the channels changing fastest and the counts slowest."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        _check_whole(self.latencies, self.counts, self.top_ks, self.channels)
        return self


class LayerTimes(BaseModel):
    """One kind of layer: its call, and under the name of its kind what each component takes."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Curve | Grid]

    layers: tuple[int, ...]
    """Those of this kind."""
    call: Latency
    """A layer that keeps no component."""

    @classmethod
    def of(cls, layers: Sequence[int], call: Latency, parts: Mapping[str, Curve | Grid]) -> Self:
        """Return the times of a kind of layer, given those of its components by kind."""
        return cls.model_validate({"layers": tuple(layers), "call": call, **parts})

    def part(self, kind: ComponentKind) -> Curve | Grid:
        """Return what was timed of its component of a kind, which it must have."""
        return self.__pydantic_extra__[kind]


class LatencyTable(_Frozen):
    """The measurements, before anything is derived from them."""

    version: Literal[1] = 1
    setting: Setting
    dense: Latency
    """The whole model, measured in turns with its parts."""
    rest: Latency
    """Embedding, head and all else outside the layers."""
    kinds: tuple[LayerTimes, ...]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the measurements."""
        return _digest(self)

    def to_json(self) -> str:
        """Return the file's text."""
        return self.model_dump_json(indent=1, exclude_none=True) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a table.

        Raises:
            LatencyError: If the file is no table of this version.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ValidationError) as error:
            raise LatencyError(
                f"`{path}` must be a latency table of version 1, and it is missing or damaged; "
                "restore it from a copy, or search into another --out"
            ) from error

    def check_device(self, path: Path, device: Device) -> None:
        """Refuse a table that was measured elsewhere.

        Args:
            path: Of the table, for the message.
            device: On which it is to be used.

        Raises:
            LatencyError: If the table is of another device; both are named.
        """
        if self.setting.device != device:
            raise LatencyError(
                f"a latency table holds only for the device that it was measured on, and `{path}` "
                f"is of {self.setting.device}, got {device}; work on that device, search "
                "here into another --out, or remove the file to export without a prediction"
            )

    def check(self, path: Path, setting: Setting) -> None:
        """Refuse a table that was measured elsewhere, or of something else.

        Args:
            path: Of the table, for the message.
            setting: In which it is to be used.

        Raises:
            LatencyError: If the table is of another setting.
        """
        self.check_device(path, setting.device)
        if self.setting != setting:
            raise LatencyError(
                f"a latency table holds only for the model, dtype and workload that it was "
                f"measured with, and `{path}` is of {self.setting}, got {setting}; search into "
                "another --out"
            )


def _digest(content: BaseModel) -> str:
    # fields that only mixtures have are left out, so that digests of dense models never change
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
    words = [type(model).__name__, str(model.config._attn_implementation)]
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
