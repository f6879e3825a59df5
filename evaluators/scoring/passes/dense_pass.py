"""One dense pass over all windows, from which batches of any windows are put together."""

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.structure.backbone import Backbone, LayerCall, LayerInputs


class DensePass:
    """Inputs of the first layer and final hidden states of the dense model, for every window.

    Args:
        backbone: The dense model.
        windows: Token ids ``(windows, tokens)``.
        at_once: Windows run at once.
    """

    def __init__(self, backbone: Backbone, windows: Tensor, at_once: int) -> None:
        self._backbone = backbone
        self._windows = windows.to(backbone.model.device)
        parts = [backbone.enter(part) for part in torch.split(self._windows, at_once)]
        self._hidden = torch.cat([part.hidden for part in parts])
        self._final = torch.cat([part.final for part in parts])
        self._calls: dict[int, tuple[LayerCall, ...]] = {
            len(part.hidden): part.calls for part in parts
        }

    def pick(self, windows: Sequence[int]) -> tuple[Tensor, LayerInputs]:
        """Return token ids ``(picked, tokens)`` of some windows, and what enters the layers."""
        rows = torch.tensor(windows, device=self._windows.device)
        tokens = self._windows[rows]
        if len(rows) not in self._calls:  # they depend on the batch's shape alone
            self._calls[len(rows)] = self._backbone.enter(tokens).calls
        hidden, final = self._hidden[rows], self._final[rows]
        return tokens, LayerInputs(tokens, hidden, self._calls[len(rows)], final)
