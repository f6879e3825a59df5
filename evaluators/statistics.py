"""One pass over the calibration tokens that collects what the rankings asked for."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.read import ModelStructure


@torch.inference_mode()
def collect_statistics(
    structure: ModelStructure, windows: Tensor, *, batch_tokens: int = 4096
) -> tuple[Statistics, ...]:
    """Measure the inputs of every layer and projection over the dense model's pass.

    Args:
        structure: The dense model, not permuted yet.
        windows: Token ids ``(windows, tokens)``.
        batch_tokens: Tokens run at once.

    Returns:
        For each layer all statistics that a ranking may ask for, in float32.
    """
    moments: list[dict[str, Tensor]] = [{} for _ in structure.layers]
    energies: list[list[Tensor]] = [[] for _ in structure.layers]

    def watch(layer: int, path: str) -> RemovableHandle:
        def hook(_module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            inputs = args[0] if args else kwargs["hidden_states"]
            squares = inputs.float().square().flatten(0, -2)  # (tokens, columns)
            if path:
                share = squares.sum(dim=0) / windows.numel()
                moments[layer][path] = moments[layer].get(path, 0) + share
            else:
                energies[layer].append(squares.sum(dim=1))

        module = structure.backbone.layers[layer].get_submodule(path)
        return module.register_forward_pre_hook(hook, with_kwargs=True)

    hooks = [watch(index, "") for index in range(len(structure.layers))]
    hooks += [watch(b.layer, p.path) for b in structure.sub_blocks for p in b.projections]
    try:
        for batch in torch.split(windows, max(1, batch_tokens // windows.shape[1])):
            tokens = batch.to(structure.backbone.model.device)
            structure.backbone.decoder(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(map(_statistics, moments, energies))


def _statistics(moments: dict[str, Tensor], energies: list[Tensor]) -> Statistics:
    """Give the statistics of one layer."""
    by_projection: dict[tuple[StatisticName, str], Tensor] = {
        ("input_second_moment", path): moment for path, moment in moments.items()
    }
    # a median, for some models give their first token a thousand times the energy
    return by_projection | {("hidden_energy", ""): torch.cat(energies).median()}
