"""What a plan keeps of one component, as portable JSON."""

import re
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from search_spaces.errors import PlanError
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.space.number_format import STORED, NumberFormat, parse_cache_format
from search_spaces.space.sparsity import DENSE, SparsityPattern


class ComponentPlan(BaseModel):
    """What a plan keeps of one component."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    unit_count: int
    """Units of the dense component."""
    kept: str
    """Kept units, as ascending ranges such as ``0-3,7``; empty if it is dropped."""
    pattern: str = ""
    """Sparsity of its matrices, such as ``50%`` or ``2:4``; empty: dense."""
    channels: str = ""
    """Kept channels of kept experts, as ranges: those of expert ``e`` are numbered from ``e``
    times the channels of an expert on; empty: all."""
    top_k: int = 0
    """Experts that run for a token; 0: as many as in the dense model."""
    format: str = ""
    """Number format of its matrices, such as ``Q4_K``; empty: the dense model's."""
    cache: str = ""
    """That of its keys and values, such as ``Q8_0``; empty: the runtime's usual one."""
    stand_in: int = Field(default=0, ge=0)
    """Dropped components after it that its output projection stands in for."""

    @classmethod
    def of(
        cls,
        units: NDArray[np.int_],
        unit_count: int,
        options: BlockOptions = DENSE_OPTIONS,
        channels: NDArray[np.int_] | None = None,
        channel_count: int = 0,
    ) -> Self:
        """Return the plan that keeps some units with some options.

        >>> ComponentPlan.of(np.array([7, 0, 2, 1]), unit_count=8).kept
        '0-2,7'

        Args:
            units: Kept units.
            unit_count: Units of the dense component.
            options: Of the kept units.
            channels: Kept channels of each of these experts, ``(experts, channels)``; None: all.
            channel_count: Channels of each expert of the dense model.
        """
        flat = None if channels is None else (units[:, None] * channel_count + channels).ravel()
        return cls(
            unit_count=unit_count,
            kept=_as_ranges(units),
            pattern="" if options.pattern.is_dense else str(options.pattern),
            channels="" if flat is None else _as_ranges(flat),
            top_k=options.top_k,
            format="" if options.format == STORED else str(options.format),
            cache="" if options.cache == STORED else str(options.cache),
            stand_in=options.stand_in,
        )

    def options(self, channel_count: int) -> BlockOptions:
        """Return the options of the kept units.

        Args:
            channel_count: Channels of each expert of the dense model; 0: the component has none.

        Raises:
            PlanError: If a field is out of place.
        """
        channels = self.kept_channels(channel_count)
        return BlockOptions(
            pattern=SparsityPattern.parse(self.pattern) if self.pattern else DENSE,
            channels=0 if channels is None else channels.shape[1],
            top_k=self.top_k,
            format=NumberFormat.parse(self.format) if self.format else STORED,
            cache=parse_cache_format(self.cache) if self.cache else STORED,
            stand_in=self.stand_in,
        )

    @property
    def rewrites(self) -> bool:
        """Whether some matrix is no slice of the dense one, whatever its width."""
        return bool(self.pattern or self.format or self.stand_in)

    @property
    def content(self) -> str | list[str]:
        """What is kept, without the width, in the fewest strings."""
        experts = [self.channels, str(self.top_k)] if self.channels or self.top_k else []
        number_format = [self.format] if self.format else []
        cache = [f"{self.cache} cache"] if self.cache else []
        stand_in = [f"for {self.stand_in}"] if self.stand_in else []
        parts = [self.kept, self.pattern, *experts, *number_format, *cache, *stand_in]
        return parts if any(parts[1:]) else self.kept

    @property
    def units(self) -> NDArray[np.int_]:
        """The kept units, ascending.

        Raises:
            PlanError: If `kept` is no list of ascending ranges below the unit count.
        """
        return _from_ranges(self.kept, self.unit_count)

    def kept_channels(self, channel_count: int) -> NDArray[np.int_] | None:
        """Return the kept channels of each kept expert, ``(experts, channels)``; None: all.

        Args:
            channel_count: Channels of each expert of the dense model.

        Raises:
            PlanError: If `channels` is no such list, or experts keep different numbers.
        """
        if not self.channels:
            return None
        flat, units = _from_ranges(self.channels, self.unit_count * channel_count), self.units
        each = len(flat) // max(1, len(units))
        owners = flat // channel_count
        if not each or not np.array_equal(owners, np.repeat(units, each)):
            raise PlanError(
                "a plan must keep as many channels of each kept expert and none of others, got "
                f"`{self.channels[:60]}`; export the plan again from its run"
            )
        return (flat % channel_count).reshape(len(units), each)


def _as_ranges(numbers: NDArray[np.int_]) -> str:
    """Return the ascending ranges that make up some numbers."""
    ordered = np.sort(numbers)
    starts = np.flatnonzero(np.diff(ordered, prepend=-2) != 1)
    stops = np.append(starts, len(ordered))[1:]
    return ",".join(
        f"{ordered[a]}" if b - a == 1 else f"{ordered[a]}-{ordered[b - 1]}"
        for a, b in zip(starts, stops, strict=True)
    )


def _from_ranges(text: str, end: int) -> NDArray[np.int_]:
    """Parse ascending ranges of numbers below an end.

    Raises:
        PlanError: If the text is no list of them.
    """
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        bounds = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        if not bounds:
            raise PlanError(
                f"kept units must be ranges such as `0-3,7`, got `{part[:60]}`; "
                "export the plan again from its run"
            )
        first, last = int(bounds[1]), int(bounds[2] or bounds[1])
        if not (numbers[-1] if numbers else -1) < first <= last < end:
            raise PlanError(
                f"kept units must ascend and lie below {end}, got `{text[:60]}`; "
                "export the plan again from its run"
            )
        numbers.extend(range(first, last + 1))
    return np.asarray(numbers, dtype=np.int_)
