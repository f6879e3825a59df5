"""What each worker on Ray is to have: a count and a kind of device, as a user writes them."""

import re
from dataclasses import dataclass
from typing import Literal

from search_spaces.errors import SettingsError
from search_spaces.suggestions import shown

_FORM = re.compile(r"(?:(?P<count>[1-9]\d{0,3})x)?(?P<kind>cpu|cuda)(?::(?P<cores>[1-9]\d{0,3}))?")


@dataclass(frozen=True, kw_only=True)
class WorkerDevices:
    """Workers of one kind.

    Example:
        >>> WorkerDevices.parse("4xcpu:2")
        WorkerDevices(count=4, kind='cpu', cores=2)
    """

    count: int
    """Workers."""
    kind: Literal["cpu", "cuda"]
    """Of the device that each has for itself; ``cpu``: its cores alone."""
    cores: int
    """That each has for itself, and threads of torch."""

    @classmethod
    def parse(cls, text: str) -> "WorkerDevices":
        """Return what a user wrote.

        Raises:
            SettingsError: If it is of another form.
        """
        found = _FORM.fullmatch(text.replace(" ", "").lower())
        if found is None:
            raise SettingsError(
                "`worker_devices` must be a count and a device for each, such as `8xcuda`, or "
                f"`4xcpu:2` for two cores each, got {shown(text)}; write it so"
            )
        return cls(
            count=int(found["count"] or 1),
            kind="cuda" if found["kind"] == "cuda" else "cpu",
            cores=int(found["cores"] or 1),
        )

    def __str__(self) -> str:
        return f"{self.count}x{self.kind}:{self.cores}"

    def places(self, cores: float, accelerators: float) -> int:
        """Return how many such workers a machine has room for."""
        by_cores = int(cores // self.cores)
        return by_cores if self.kind == "cpu" else min(by_cores, int(accelerators))
