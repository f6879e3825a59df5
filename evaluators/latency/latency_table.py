"""The latency table: times of one model's parts on one device, for one workload."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from evaluators.latency.latency_setting import Setting, digest_of
from evaluators.latency.workload import Latency
from search_spaces.errors import LatencyError, quoted
from search_spaces.structure.components import ComponentKind

_VERSION: Literal[3] = 3


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


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
    in_formats: Mapping[str, Latency] = {}
    """By number format that of all units in it."""

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
    in_formats: Mapping[str, Latency] = {}
    """By number format that of all units in it."""

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

    version: Literal[3] = _VERSION
    setting: Setting
    dense: Latency
    """The whole model, measured in turns with its parts."""
    rest: Latency
    """Embedding, head and all else outside the layers."""
    rest_in: Mapping[str, Latency] = {}
    """The same by number format of the embedding and the head."""
    kinds: tuple[LayerTimes, ...]

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that identify the measurements."""
        return digest_of(self)

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
                f"`{path}` must be a latency table of version {_VERSION}, and it is missing or "
                "damaged; restore it from a copy, or search into another --out"
            ) from error

    def check_place(self, path: Path, setting: Setting) -> None:
        """Refuse a table that was measured on another device or in another runtime.

        Args:
            path: Of the table, for the message.
            setting: In which it is to be used; of its runtime all but the number format and
                the attention count.

        Raises:
            LatencyError: If the table is of another place; what differs is named.
        """
        if differing := _differing(_place(self.setting), _place(setting)):
            raise LatencyError(
                f"a latency table holds only where it was measured, and of {_shown(path)} "
                f"{differing}; work there, search into another --out, or export without the file"
            )

    def check(self, path: Path, setting: Setting) -> None:
        """Refuse a table that was measured elsewhere, or of something else.

        Args:
            path: Of the table, for the message.
            setting: In which it is to be used.

        Raises:
            LatencyError: If the table is of another setting; what differs is named.
        """
        self.check_place(path, setting)
        if differing := _differing(_measured(self.setting), _measured(setting)):
            raise LatencyError(
                "a latency table holds only for the model, dtype and workload that it was "
                f"measured with, and of {_shown(path)} {differing}; search into another --out"
            )


def _place(setting: Setting) -> dict[str, str]:
    runtime = setting.runtime
    return {
        "device": setting.device.name,
        "number of cores": str(setting.device.core_count),
        "platform": setting.device.platform,
        "runtime": f"{runtime.name} {runtime.version}",
        "number of threads": str(runtime.threads),
    }


def _measured(setting: Setting) -> dict[str, str]:
    return {
        "model": setting.shapes,
        "dtype": setting.runtime.dtype,
        "attention": setting.runtime.attention or "its only one",
        "workload": str(setting.workload),
        "experts": setting.thinned or "as in the dense model",
        "number formats": setting.formats or "that of the dense model",
    }


def _differing(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Name the first thing that differs; empty: nothing does."""
    for name, value in there.items():
        if value != here[name]:
            return f"the {name} is {_shown(value)}, here {_shown(here[name])}"
    return ""


def _shown(value: object) -> str:
    """Write a value so that three of them fit into a message."""
    return quoted(str(value), 48)
