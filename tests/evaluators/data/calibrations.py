"""What calibration text holds."""

import torch
from torch import Tensor

from evaluators.data.windows import Calibration


def every_window(found: Calibration) -> Tensor:
    return torch.cat([found.search, found.fresh, found.holdout])
