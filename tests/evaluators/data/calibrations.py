"""What calibration text holds."""

import torch
from torch import Tensor

from evaluators.data.windows import DRAWS, Calibration


def every_window(found: Calibration) -> Tensor:
    return torch.cat([getattr(found, name) for name in DRAWS])
