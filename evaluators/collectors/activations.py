"""Layer by layer: what projections read, and what each layer does to the hidden states."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from evaluators.collectors.expert_activations import ExpertMeter
from evaluators.collectors.names import OF_EXPERTS, OF_HIDDEN, OF_INPUTS, Key
from search_spaces.statistics import StatisticName
from search_spaces.structure.backbone import Backbone, LayerCall
from search_spaces.structure.hooks import hooked
from search_spaces.structure.model import LayerStructure, ModelStructure
from search_spaces.surgery.slice_and_cut import narrowed

_SUMS: Mapping[StatisticName, Callable[[Tensor], Tensor]] = {
    "input_mean": lambda rows: rows.sum(dim=0),
    "input_magnitude": lambda rows: rows.abs().sum(dim=0),
    "input_second_moment": lambda rows: rows.square().sum(dim=0),
}


@torch.no_grad()
def measure_layers(
    structure: ModelStructure,
    windows: Tensor,
    wanted: frozenset[StatisticName],
    layers: Collection[int],
    batch_tokens: int,
) -> Iterator[tuple[int, dict[Key, Tensor]]]:
    """Measure some layers as the hidden states of all windows pass through them.

    Args:
        structure: The dense model.
        windows: Token ids ``(windows, tokens)``.
        wanted: Names; those of other passes are left out.
        layers: Which layers.
        batch_tokens: Tokens run at once.

    Yields:
        A layer, as soon as it is done, and its statistics.
    """
    backbone = structure.backbone
    batches = torch.split(windows, max(1, batch_tokens // windows.shape[1]))
    states, calls = enter_batches(backbone, batches)
    for index in range(max(layers) + 1):
        own = structure.layers[index]
        meter = _LayerMeter(own, wanted, windows.numel()) if index in layers else None
        with backbone.resident(index) as layer:
            for position, hidden in enumerate(states):
                call = calls[len(hidden)][index]
                if meter is None:
                    states[position] = backbone.run_layer(layer, hidden, call)
                    continue
                with meter.watching(layer):
                    leaving = backbone.run_layer(layer, hidden, call)
                between = None
                if wanted & OF_HIDDEN:
                    without = narrowed(layer, [(component, 0) for component in own.feed_forward])
                    between = backbone.run_layer(without, hidden, call)
                meter.saw(hidden, between, leaving)
                states[position] = leaving
            found = {} if meter is None else meter.statistics(layer)
        if meter is not None:
            yield index, found


def enter_batches(
    backbone: Backbone, batches: tuple[Tensor, ...]
) -> tuple[list[Tensor], dict[int, tuple[LayerCall, ...]]]:
    """Give what enters the first layer for each batch, and each layer's calls by batch size."""
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
    """Running sums over what one projection reads.

    Vectors are summed in float32 inside a batch and in float64 across them. A Gram matrix is
    summed in float32 throughout: in float64 it would be the largest thing in memory, and its
    rounding is far below what another text would change.
    """

    def __init__(self, wanted: frozenset[StatisticName]) -> None:
        self._vectors: dict[StatisticName, Tensor] = {}
        self._gram: Tensor | None = None
        self._wanted = wanted

    def add(self, inputs: Tensor) -> None:
        rows = inputs.flatten(0, -2).float()  # (tokens, columns)
        for name, total in _SUMS.items():
            if name in self._wanted:
                self._vectors[name] = self._vectors.get(name, 0) + total(rows).cpu().double()
        if "gram" in self._wanted:
            if self._gram is None:
                self._gram = rows.new_zeros(rows.shape[1], rows.shape[1])
            self._gram.addmm_(rows.t(), rows)

    def means(self, tokens: int) -> dict[StatisticName, Tensor]:
        found = {name: (total / tokens).float() for name, total in self._vectors.items()}
        if self._gram is not None:
            found["gram"] = (self._gram / tokens).cpu()
        return found


class _LayerMeter:
    """Running sums over one layer's passes."""

    def __init__(
        self, layer: LayerStructure, wanted: frozenset[StatisticName], tokens: int
    ) -> None:
        components = layer.components
        self._paths = [
            projection.path for component in components for projection in component.projections
        ]
        self._wanted = wanted
        self._tokens = tokens
        self._inputs: dict[str, _InputMeter] = {}
        self._sources: dict[str, str] = {}
        """For each projection the first one that reads the very same tensor."""
        self._energies: list[Tensor] = []
        self._turns: dict[Key, float] = {}
        self._experts: ExpertMeter | None = None
        if layer.experts is not None and wanted & OF_EXPERTS:
            self._experts = ExpertMeter(layer.experts, wanted, tokens)

    @contextmanager
    def watching(self, layer: nn.Module) -> Iterator[None]:
        """Sum up what the projections read, and what experts do, while the layer runs once."""
        seen: list[tuple[str, Tensor]] = []  # holds them, so that none takes another's place

        def note(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
                source = next((at for at, known in seen if known is args[0]), path)
                self._sources[path] = source
                if source == path:
                    seen.append((path, args[0]))
                    self._inputs.setdefault(path, _InputMeter(self._wanted)).add(args[0])

            return hook

        paths = self._paths if self._wanted & OF_INPUTS else []
        hooks = (layer.get_submodule(p).register_forward_pre_hook(note(p)) for p in paths)
        watched_experts = self._experts.watching(layer) if self._experts else nullcontext()
        with hooked(hooks), watched_experts:
            yield

    def saw(self, entering: Tensor, between: Tensor | None, leaving: Tensor) -> None:
        """Sum up hidden states ``(batch, tokens, hidden)``.

        Args:
            entering: What the layer got.
            between: What it gives without its MLP, if that is wanted.
            leaving: What it gave.
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

    def statistics(self, layer: nn.Module) -> dict[Key, Tensor]:
        """Give what was wanted of all passes; what projections share is one tensor."""
        means = {path: meter.means(self._tokens) for path, meter in self._inputs.items()}
        found: dict[Key, Tensor] = {
            (name, path): value
            for path, source in self._sources.items()
            for name, value in means[source].items()
        }
        for key, total in self._turns.items():
            found[key] = torch.tensor(total / self._tokens, dtype=torch.float32)
        if self._experts is not None:
            found |= self._experts.statistics(layer)
        found["tokens", ""] = torch.tensor(float(self._tokens))
        # a median, for some models give their first token a thousand times the energy
        found["hidden_energy", ""] = torch.cat(self._energies).median().cpu()
        return found

    def _add(self, name: StatisticName, part: str, values: Tensor) -> None:
        if name in self._wanted:
            self._turns[name, part] = self._turns.get((name, part), 0.0) + float(values.sum())
