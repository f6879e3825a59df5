"""One file for each published rule that tells components how much of their weights stays."""

from typing import Literal

AllocationName = Literal["lamp", "global_magnitude", "owl"]
