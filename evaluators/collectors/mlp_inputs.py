"""Inputs of each layer's MLP on calibration text, one layer after another."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from evaluators.collectors.activations import enter_batches
from search_spaces.structure.backbone import Backbone


@torch.no_grad()
def mlp_inputs(
    backbone: Backbone, windows: Tensor, module: str, batch_tokens: int = 4096
) -> Iterator[tuple[int, Tensor]]:
    """Run windows through the layers, and yield the inputs of each layer's MLP.

    The hidden states of all windows are held, and the inputs of one layer's MLP.

    Args:
        backbone: The dense model.
        windows: Token ids ``(windows, tokens)``.
        module: Path of the MLP inside each layer.
        batch_tokens: Tokens run at once.

    Yields:
        A layer, and its MLP's inputs ``(all tokens, hidden)`` as the model computes them.
    """
    batches = torch.split(windows, max(1, batch_tokens // windows.shape[1]))
    states, calls = enter_batches(backbone, batches)
    for index in range(len(backbone.layers)):
        inputs: list[Tensor] = []

        def note(
            _module: nn.Module, args: tuple[Tensor, ...], inputs: list[Tensor] = inputs
        ) -> None:
            inputs.append(args[0].flatten(0, -2))

        with (
            backbone.resident(index) as layer,
            layer.get_submodule(module).register_forward_pre_hook(note),
        ):
            for position, hidden in enumerate(states):
                call = calls[len(hidden)][index]
                states[position] = backbone.run_layer(layer, hidden, call)
        yield index, torch.cat(inputs)
