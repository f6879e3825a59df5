"""Scoring a model whose layers are given one by one, against the dense model."""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.scoring.batches import Fidelity, WindowBatches
from evaluators.scoring.ends import OwnEnds
from evaluators.scoring.score import Score, is_finite
from search_spaces.progress import NO_PROGRESS, Progress
from search_spaces.structure.backbone import Backbone


@torch.inference_mode()
def score_layers(
    backbone: Backbone,
    layer_at: Callable[[int], nn.Module],
    windows: Tensor,
    fidelity: Fidelity,
    progress: Progress = NO_PROGRESS,
    ends: OwnEnds | None = None,
) -> Score:
    """Score layers in the place of a model's own; one of them is held at a time.

    Args:
        backbone: The dense model.
        layer_at: Returns the layer that takes the place of the one of a number.
        windows: Token ids ``(windows, tokens)``.
        fidelity: How finely; all windows are one rung.
        progress: Told of each layer.
        ends: What embeds and reads out in the place of the dense model's; None: these do.
    """
    batches = WindowBatches(backbone, windows, fidelity).of_rung(0)
    started = time.monotonic()
    hidden = [
        batch.inputs.hidden if ends is None else ends.embed(batch.inputs.tokens)
        for batch in batches
    ]
    for index in range(len(backbone.layers)):
        layer = layer_at(index)
        for place, batch in enumerate(batches):
            hidden[place] = backbone.run_layer(layer, hidden[place], batch.inputs.calls[index])
        progress.advance(index + 1, len(backbone.layers))
    parts = [
        batch.readout.compare(
            [batch.readout.pick(backbone.leave(states))], None if ends is None else ends.head
        )[0]
        for batch, states in zip(batches, hidden, strict=True)
    ]
    by_window = {name: np.concatenate([p[name] for p in parts]) for name in fidelity.metrics}
    return Score(
        by_window=by_window,
        tokens=windows.numel(),
        seconds=time.monotonic() - started,
        failure=None if is_finite(by_window) else "its logits hold NaN or infinity",
    )
