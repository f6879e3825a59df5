"""Sensitivity priors, and published allocations of sparsity to components: one file a method."""

from typing import Literal

AllocationName = Literal["lamp", "global_magnitude", "owl"]
