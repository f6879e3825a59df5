"""Layer by layer: statistics of projections' inputs and of the hidden states around a layer."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from evaluators.collectors.expert_activations import ExpertMeter
from evaluators.collectors.names import OF_EXPERTS, OF_HIDDEN, OF_INPUTS, PARTS, Key
from search_spaces.statistics import StatisticName
from search_spaces.structure.backbone import Backbone, LayerCall
from search_spaces.structure.hooks import hooked
from search_spaces.structure.mixture import mixtures_of
from search_spaces.structure.model import LayerStructure, ModelStructure
from search_spaces.surgery.slice_and_cut import narrowed

_SUMS: Mapping[StatisticName, Callable[[Tensor], Tensor]] = {
    "input_mean": lambda rows: rows.sum(dim=0),
    "input_magnitude": lambda rows: rows.abs().sum(dim=0),
    "input_second_moment": lambda rows: rows.square().sum(dim=0),
}


_FIRST_TOKENS = 4
"""Of a window, whose hidden states may be hundreds of times as large as all others."""
_OUTPUTS_PER_FEATURE = 8
"""Tokens whose outputs are kept, for each feature of the hidden states: a square matrix is fitted
to them."""


@torch.no_grad()
def measure_layers(
    structure: ModelStructure,
    windows: Tensor,
    names: frozenset[StatisticName],
    layers: Collection[int],
    batch_tokens: int,
) -> Iterator[tuple[int, dict[Key, Tensor]]]:
    """Measure some layers as the hidden states of all windows pass through them.

    Args:
        structure: The dense model.
        windows: Token ids ``(windows, tokens)``.
        names: Statistics; those of other passes are left out.
        layers: Which layers.
        batch_tokens: Tokens run at once.

    Yields:
        A layer, as soon as it is done, and its statistics.
    """
    backbone = structure.backbone
    batches = torch.split(windows, max(1, batch_tokens // windows.shape[1]))
    states, calls = enter_batches(backbone, batches)
    for index in range(max(layers) + 1):
        layer_structure = structure.layers[index]
        meter = _LayerMeter(layer_structure, names, windows.numel()) if index in layers else None
        with backbone.resident(index) as layer:
            for position, hidden in enumerate(states):
                call = calls[len(hidden)][index]
                if meter is None:
                    states[position] = backbone.run_layer(layer, hidden, call)
                    continue
                with meter.watching(layer):
                    leaving = backbone.run_layer(layer, hidden, call)
                between = None
                if names & OF_HIDDEN:
                    dropped = [(component, 0) for component in layer_structure.feed_forward]
                    between = backbone.run_layer(narrowed(layer, dropped), hidden, call)
                meter.add_states(hidden, between, leaving)
                states[position] = leaving
            statistics = {} if meter is None else meter.statistics(layer)
        if meter is not None:
            yield index, statistics


def enter_batches(
    backbone: Backbone, batches: tuple[Tensor, ...]
) -> tuple[list[Tensor], dict[int, tuple[LayerCall, ...]]]:
    """Return what enters the first layer for each batch, and each layer's calls by batch size."""
    states: list[Tensor] = []
    calls: dict[int, tuple[LayerCall, ...]] = {}
    for batch in batches:
        tokens = batch.to(backbone.model.device)
        if len(batch) in calls:
            states.append(backbone.embed(tokens))
        else:
            inputs = backbone.enter(tokens)
            states.append(inputs.hidden)
            calls[len(batch)] = inputs.calls
    return states, calls


class _InputMeter:
    """Running sums over the inputs of one projection.

    Vectors are summed in float32 inside a batch and in float64 across them. A Gram matrix is
    summed in float32 throughout: in float64 it would be the largest thing in memory, and its
    rounding error is far below the difference that another text would make.
    """

    def __init__(self, names: frozenset[StatisticName]) -> None:
        self._vectors: dict[StatisticName, Tensor] = {}
        self._gram: Tensor | None = None
        self._names = names

    def add(self, inputs: Tensor) -> None:
        rows = inputs.flatten(0, -2).float()  # (tokens, columns)
        for name, total in _SUMS.items():
            if name in self._names:
                self._vectors[name] = self._vectors.get(name, 0) + total(rows).cpu().double()
        if "gram" in self._names:
            if self._gram is None:
                self._gram = rows.new_zeros(rows.shape[1], rows.shape[1])
            self._gram.addmm_(rows.t(), rows)

    def means(self, tokens: int) -> dict[StatisticName, Tensor]:
        means = {name: (total / tokens).float() for name, total in self._vectors.items()}
        if self._gram is not None:
            means["gram"] = (self._gram / tokens).cpu()
        return means


class _LayerMeter:
    """Running sums over one layer's passes."""

    def __init__(
        self, layer: LayerStructure, names: frozenset[StatisticName], tokens: int
    ) -> None:
        self._paths = [
            path
            for component in layer.components
            for path in component.statistic_paths("matrices")
        ]
        self._names = names
        self._tokens = tokens
        self._inputs: dict[str, _InputMeter] = {}
        self._sources: dict[str, str] = {}
        """For each projection the first one with the very same input tensor."""
        self._energies: list[Tensor] = []
        self._state_sums: dict[Key, float] = {}
        self._outputs: dict[str, list[Tensor]] = {part: [] for part in PARTS[1:]}
        mixtures = mixtures_of(layer.components) if names & OF_EXPERTS else ()
        self._experts = [ExpertMeter(mixture, names, tokens) for mixture in mixtures]

    @contextmanager
    def watching(self, layer: nn.Module) -> Iterator[None]:
        """Add up the inputs of projections, and what experts do, while the layer runs once."""
        sources: list[tuple[str, Tensor]] = []  # keeps tensors alive, so that `is` is reliable

        def note(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
                source = next((at for at, tensor in sources if tensor is args[0]), path)
                self._sources[path] = source
                if source == path:
                    sources.append((path, args[0]))
                    self._inputs.setdefault(path, _InputMeter(self._names)).add(args[0])

            return hook

        paths = self._paths if self._names & OF_INPUTS else []
        hooks = (layer.get_submodule(p).register_forward_pre_hook(note(p)) for p in paths)
        with hooked(hooks), ExitStack() as stack:
            for meter in self._experts:
                stack.enter_context(meter.watching(layer))
            yield

    def add_states(self, entering: Tensor, between: Tensor | None, leaving: Tensor) -> None:
        """Add up hidden states ``(batch, tokens, hidden)``.

        Args:
            entering: Input of the layer.
            between: Its output with the MLP dropped, if that is needed.
            leaving: Its output.
        """
        self._energies.append(entering.float().square().sum(dim=-1).flatten())
        if between is None:
            return
        for part, before, after in (
            ("", entering, leaving),
            ("attention", entering, between),
            ("mlp", between, leaving),
        ):
            # in float64, for the angle of a cosine near 1 lies in its last digits
            cosine = torch.cosine_similarity(before.double(), after.double(), dim=-1).clamp(-1, 1)
            self._add("similarity", part, cosine)
            self._add("angle", part, cosine.arccos() / torch.pi)
            if part and "component_output" in self._names:
                self._outputs[part].append(self._added(before, after))

    def statistics(self, layer: nn.Module) -> dict[Key, Tensor]:
        """Return the statistics of all passes; projections of one input share one tensor."""
        means = {path: meter.means(self._tokens) for path, meter in self._inputs.items()}
        statistics: dict[Key, Tensor] = {
            (name, path): value
            for path, source in self._sources.items()
            for name, value in means[source].items()
        }
        for key, total in self._state_sums.items():
            statistics[key] = torch.tensor(total / self._tokens, dtype=torch.float32)
        for part, outputs in self._outputs.items():
            if outputs:
                statistics["component_output", part] = torch.cat(outputs)
        for meter in self._experts:
            statistics |= meter.statistics(layer)
        statistics["tokens", ""] = torch.tensor(float(self._tokens))
        # a median, for massive activations give some first tokens a thousand times the energy
        statistics["hidden_energy", ""] = torch.cat(self._energies).median().cpu()
        return statistics

    def _added(self, before: Tensor, after: Tensor) -> Tensor:
        """Return what was added to hidden states at the tokens that are kept of a batch."""
        length, hidden = before.shape[1:]
        windows = self._tokens // length
        first = min(_FIRST_TOKENS, length - 1)
        count = min(length - first, -(-_OUTPUTS_PER_FEATURE * hidden // windows))
        places = torch.linspace(first, length - 1, count, device=before.device).round().long()
        added = after[:, places].float() - before[:, places].float()
        return added.flatten(0, 1).bfloat16().cpu()

    def _add(self, name: StatisticName, part: str, values: Tensor) -> None:
        if name in self._names:
            total = self._state_sums.get((name, part), 0.0)
            self._state_sums[name, part] = total + float(values.sum())
