"""Statistics of a mixture of experts: the router's choices, and the experts' outputs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from evaluators.collectors.names import OF_EXPERT_RUNS, OF_EXPERT_TURNS, Key
from search_spaces.importance.experts.nested_subsets import turn_errors
from search_spaces.statistics import StatisticName
from search_spaces.structure.expert_hooks import ExpertRun, Routed, masked_router, watched_experts
from search_spaces.structure.hooks import hooked
from search_spaces.structure.mixture import Mixture

SAMPLED_TOKENS = 256
"""Tokens, spread evenly over the text, on which all experts run to find nested subsets."""
_ROUNDING = 1e-5
"""Tolerance of an equal share of a softmax."""


class ExpertMeter:
    """Running sums over routing and outputs of the experts of one layer.

    Sums are taken in float32 inside a batch and in float64 across them.

    Args:
        mixture: The experts.
        names: Statistics; those of other passes are left out.
        tokens: Number of tokens in all passes.
    """

    def __init__(self, mixture: Mixture, names: frozenset[StatisticName], tokens: int) -> None:
        self._mixture = mixture
        self._names = names
        self._tokens = tokens
        self._sums: dict[str, Tensor] = {}
        self._sample = _Sample(mixture, tokens)

    @contextmanager
    def watching(self, layer: nn.Module) -> Iterator[None]:
        """Add up what the experts do while the layer runs once."""
        runs = self._names & OF_EXPERT_RUNS
        on_expert: Callable[[ExpertRun], None] = self._add_run if runs else _ignore_run
        with watched_experts(layer, self._mixture, self._routed, on_expert):
            if not self._names & OF_EXPERT_TURNS:
                yield
                return
            with self._sample.drawing(layer):
                yield

    def statistics(self, layer: nn.Module) -> dict[Key, Tensor]:
        """Return the statistics of all passes.

        Args:
            layer: The layer, in memory.
        """
        count = self._sums["count"]
        first = self._sums["first"]
        statistics: dict[StatisticName, Tensor] = {
            "expert_frequency": count / self._tokens,
            "expert_weight": self._sums["weight"] / self._tokens,
            "expert_first": first / self._tokens,
            "expert_confidence": self._sums["confidence"] / first.clamp(min=1),
            "expert_selection": self._sums["selection"] / self._tokens,
            "routing_gram": self._sums["gram"] / self._tokens,
        }
        if self._names & OF_EXPERT_RUNS:
            statistics["expert_output"] = self._sums["output"][:, 0] / count.clamp(min=1)
            statistics["expert_input_energy"] = self._sums["inputs"] / self._tokens
            statistics["expert_channel_energy"] = self._sums["channels"] / self._tokens
        if self._names & OF_EXPERT_TURNS:
            statistics["expert_reconstruction"] = self._sample.errors(layer)
        holder = self._mixture.holder
        return {
            (name, holder): value.float()
            for name, value in statistics.items()
            if name in self._names
        }

    def _routed(self, routed: Routed) -> None:
        chosen, logits = routed.chosen, routed.logits.float()
        weights = routed.weights.float()
        chosen_logits = logits.gather(1, chosen)
        best = weights.amax(dim=1, keepdim=True)
        place = chosen_logits.masked_fill(weights < best, -torch.inf).argmax(dim=1, keepdim=True)
        first = chosen.gather(1, place)
        above = logits - logits.amin(dim=1, keepdim=True)
        shares = chosen_logits.softmax(dim=1)
        confident = shares >= 1 / chosen.shape[1] - _ROUNDING
        self._add("gram", logits.T @ logits)
        self._scatter("count", chosen, torch.ones_like(weights))
        self._scatter("weight", chosen, weights)
        self._scatter("first", first, torch.ones_like(best))
        self._scatter("confidence", first, best)
        self._scatter("selection", chosen, above.gather(1, chosen) * confident)

    def _add_run(self, run: ExpertRun) -> None:
        weights = run.weights.float()
        norms = run.outputs.float().norm(dim=1)
        self._add_to("output", run.expert, (weights * norms).sum(dim=0, keepdim=True))
        for name, rows in (("inputs", run.inputs), ("channels", run.channels)):
            energies = (weights[:, None] * rows.float()).square().sum(dim=0)
            self._add_to(name, run.expert, energies)

    def _scatter(self, name: str, experts: Tensor, values: Tensor) -> None:
        sums = values.new_zeros(self._mixture.member_count)
        self._add(name, sums.index_add_(0, experts.flatten(), values.flatten()))

    def _add(self, name: str, value: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0) + value.cpu().double()

    def _add_to(self, name: str, expert: int, value: Tensor) -> None:
        if name not in self._sums:
            self._sums[name] = torch.zeros(
                self._mixture.member_count, len(value), dtype=torch.float64
            )
        self._sums[name][expert] += value.cpu()


def _ignore_run(_run: ExpertRun) -> None:
    """Do nothing: only routing is measured."""


class _Sample:
    """A sample of the tokens that router and experts read."""

    def __init__(self, mixture: Mixture, tokens: int) -> None:
        self._mixture = mixture
        self._places = torch.linspace(0, tokens - 1, min(tokens, SAMPLED_TOKENS)).long()
        self._read: dict[str, list[Tensor]] = {path: [] for path in mixture.paths}
        self._seen = dict.fromkeys(self._read, 0)
        self._dimensions = 2

    @contextmanager
    def drawing(self, layer: nn.Module) -> Iterator[None]:
        """Keep the sampled inputs while the layer runs once."""

        def keep(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
                if path == self._mixture.router:
                    self._dimensions = args[0].ndim
                rows = args[0].flatten(0, -2)
                places = self._places - self._seen[path]
                places = places[(places >= 0) & (places < len(rows))]
                self._read[path].append(rows[places.to(rows.device)])
                self._seen[path] += len(rows)

            return hook

        with hooked(
            layer.get_submodule(path).register_forward_pre_hook(keep(path)) for path in self._read
        ):
            yield

    def errors(self, layer: nn.Module) -> Tensor:
        """Return, for each expert, the output error once it is pruned in its turn."""
        mixture = self._mixture
        read = torch.cat(self._read[mixture.router])
        if self._dimensions == 3:
            read = read[None]
        router = layer.get_submodule(mixture.router)

        def route(kept: Tensor) -> tuple[Tensor, Tensor]:
            pruned = torch.ones(mixture.member_count, dtype=torch.bool)
            pruned[kept.cpu()] = False
            with masked_router(layer, mixture, pruned):
                _, weights, chosen = router(read)
            # positions among the kept experts, which ascend
            return weights, torch.searchsorted(kept, chosen.contiguous())

        outputs = self._outputs(layer.get_submodule(mixture.holder))
        errors = turn_errors(outputs, route, groups=mixture.group_count, lowest=mixture.lowest)
        return torch.from_numpy(errors)

    def _outputs(self, holder: nn.Module) -> Tensor:
        """Run every expert on all of the tokens, ``(experts, tokens, hidden)``."""
        rows = torch.cat(self._read[self._mixture.holder])
        ones = rows.new_ones(len(rows), 1)
        experts = range(self._mixture.member_count)
        first = torch.zeros(len(rows), 1, dtype=torch.long, device=rows.device)
        return torch.stack([holder(rows, first + expert, ones).float() for expert in experts])
