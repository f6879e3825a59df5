"""Pruning like SliceGPT: hidden features are rotated by their principal components, and cut."""

import numpy as np
import torch
from torch import Tensor, nn

from evaluators.metric import Measurement
from evaluators.scoring.batches import Fidelity, WindowBatches
from evaluators.scoring.score import estimate
from planner.preparation.prepared_model import PreparedModel

_BATCH_TOKENS = 4096


class HiddenSlices:
    """The dense model with its hidden states projected at each layer: what slicing computes.

    Slicing every matrix to the leading principal components of the hidden states before it gives
    the same outputs as projecting these, but for the norms, whose weights are taken into the
    matrices first there. Costs are counted, not measured: nothing here is smaller.

    Args:
        prepared: The model and its text.

    References:
        Ashkboos, Croci, do Nascimento, Hoefler & Hensman, 2024, "SliceGPT: Compress Large Language
        Models by Deleting Rows and Columns".
    """

    def __init__(self, prepared: PreparedModel) -> None:
        self._prepared = prepared
        self._backbone = prepared.sorted_model.structure.backbone
        self._width = int(self._backbone.model.config.get_text_config().hidden_size)
        self._components = self._principal_components()

    def kept(self, share: float) -> int:
        """Return how many hidden features a model of a share of the parameters keeps.

        Matrices lose the rows or columns of the others, and each layer gets two square matrices
        that rotate what passes it by.
        """
        model, layers = self._backbone.model, len(self._backbone.layers)
        total = sum(weight.numel() for weight in model.parameters())
        for count in range(self._width, 0, -1):
            rotations = 2 * layers * count * count if count < self._width else 0
            if total * count / self._width + rotations <= share * total:
                return count
        return 1

    @torch.inference_mode()
    def holdout_kl(self, count: int) -> Measurement:
        """Return the KL on held-out text with so many hidden features kept."""
        windows = self._prepared.calibration.holdout
        batches = WindowBatches(self._backbone, windows, Fidelity(metrics=("kl",))).of_rung(0)
        values = []
        for batch in batches:
            hidden = self._cut(batch.inputs.hidden, 0, count)
            for index, layer in enumerate(self._backbone.layers):
                call = batch.inputs.calls[index]
                hidden = self._backbone.run_layer(layer, hidden, call)
                hidden = self._cut(hidden, index + 1, count)
            (measured,) = batch.readout.compare([batch.readout.pick(self._backbone.leave(hidden))])
            values.append(measured["kl"])
        return estimate(np.concatenate(values))

    def _cut(self, hidden: Tensor, place: int, count: int) -> Tensor:
        kept = self._components[place][:, :count].to(hidden)
        return hidden @ kept @ kept.T

    @torch.inference_mode()
    def _principal_components(self) -> list[Tensor]:
        """Return the components of the dense hidden states before each layer, the first first."""
        backbone, windows = self._backbone, self._prepared.calibration.statistics
        grams = [torch.zeros(self._width, self._width, dtype=torch.float64)] * (
            len(backbone.layers) + 1
        )
        for tokens in torch.split(windows, max(1, _BATCH_TOKENS // windows.shape[1])):
            inputs = backbone.enter(tokens)
            hidden = inputs.hidden
            for index in range(len(backbone.layers) + 1):
                rows = nn.functional.normalize(hidden.flatten(0, 1).float(), dim=-1).double()
                grams[index] = grams[index] + rows.T @ rows
                if index < len(backbone.layers):
                    layer, call = backbone.layers[index], inputs.calls[index]
                    hidden = backbone.run_layer(layer, hidden, call)
        return [torch.linalg.eigh(gram).eigenvectors.flip(1).float() for gram in grams]
