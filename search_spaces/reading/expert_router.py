"""How a router chooses experts, found by trial.

The right reading computes the same with experts removed as with experts masked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from search_spaces.errors import StructureError
from search_spaces.reading.probe import LayerProbe, rounding
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.structure.expert_hooks import masked_router
from search_spaces.structure.graft import graft
from search_spaces.structure.hooks import hooked
from search_spaces.structure.mixture import Mixture
from search_spaces.surgery.slice_and_cut import narrowed
from search_spaces.surgery.slice_experts import narrow_modules, set_counts

_AGREEING_TOKENS = 0.75
"""Share of the tokens on which a right reading agrees at least."""
_MOST_FOLLOWING = 3
"""Largest number of integers that follow the number of experts, if not all candidates do."""


@dataclass(frozen=True, kw_only=True)
class Routing:
    """Router and holder of a mixture of experts, and the sizes that are visible from outside."""

    holder: str
    router: str
    rows: tuple[str, ...]
    """Paths of the router's parameters and buffers with a row for each expert."""
    count: int
    top_k: int
    hidden: int


def read_routing(probe: LayerProbe, holder: str) -> Routing:
    """Find the router of the experts of one layer.

    Args:
        probe: The layer.
        holder: Path in it of the module that owns the experts' stacks.

    Raises:
        StructureError: If there is none, or its shape does not fit the experts.
    """
    hidden, *rest = probe.arguments(holder)
    chosen = [value for value in rest if _is_choice(value)]
    if len(chosen) != 1:
        raise StructureError(
            f"`{probe.path}.{holder}` must be handed hidden states, chosen experts and their "
            "weights, and it is handed something else; these experts cannot be read"
        )
    stacks = probe.layer.get_submodule(holder).parameters(recurse=False)
    count = next(len(weight) for weight in stacks if weight.ndim == 3)
    router = _router(probe, holder, chosen[0])
    module = probe.layer.get_submodule(router)
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    rows = tuple(
        f"{router}.{name}" for name, value in tensors if value.ndim and len(value) == count
    )
    if not rows:
        shapes = " and ".join(str(tuple(value.shape)) for _, value in tensors) or "no weights"
        raise StructureError(
            f"the router `{probe.path}.{router}` must have a row for each of the {count} experts, "
            f"got {shapes}; this checkpoint's router does not fit its experts"
        )
    return Routing(
        holder=holder,
        router=router,
        rows=rows,
        count=count,
        top_k=chosen[0].shape[-1],
        hidden=hidden.shape[-1],
    )


def read_counts(probe: LayerProbe, mixture: Mixture) -> Mixture:
    """Find the integers that follow the number of experts, their groups, and the limits of top-k.

    Args:
        probe: The layer.
        mixture: Its experts, with their stacks.

    Raises:
        StructureError: If removed experts do not compute what masked ones do.
    """
    count = mixture.member_count
    if count == 1:
        return mixture
    for groups in _group_counts(probe, mixture):
        units = count // groups
        if units < 2:
            continue
        for following in _following(probe, mixture):
            trial = replace(
                mixture, unit_count=units, group_count=groups, count_attributes=following
            )
            if (units - 1) * groups >= mixture.top_k and _counts_fit(probe, trial):
                return _with_limits(probe, trial)
    if pairs := _in_pairs(probe, mixture):
        return _with_top_k(probe, pairs)
    if mixture.top_k == count:  # all run for every token, so none can be pruned
        return _with_top_k(probe, replace(mixture, lowest=mixture.unit_count))
    raise StructureError(
        f"`{probe.path}.{mixture.router}` must compute the same with experts removed as with "
        "experts masked, and it does not; this router chooses in a way that the planner does not "
        "know"
    )


def _in_pairs(probe: LayerProbe, mixture: Mixture) -> Mixture | None:
    """Return a mixture whose router compares groups by their best two, and has no more of them."""
    for groups in _group_counts(probe, mixture):
        trial = replace(mixture, unit_count=mixture.member_count // groups, group_count=groups)
        if trial.unit_count == 2 and not _groups_chosen(probe, trial, 1):
            return replace(trial, lowest=2)
    return None


def _counts_fit(probe: LayerProbe, mixture: Mixture) -> bool:
    """Return whether the layer computes the same with experts removed as with experts masked."""
    count = mixture.unit_count - 1
    counts = [count]
    # twice, for a router that groups may happen to choose alike where all tokens resemble
    if mixture.group_count == 1 and count - 1 >= mixture.top_k:
        counts.append(count - 1)
    for count in counts:
        members = mixture.members(np.arange(mixture.member_count), count)
        expected = _with_masked_experts(probe, mixture, members)
        if not agrees(probe, mixture, count, expected):
            return False
    return True


def agrees(
    probe: LayerProbe,
    mixture: Mixture,
    count: int,
    expected: Tensor,
    options: BlockOptions = DENSE_OPTIONS,
) -> bool:
    """Return whether the layer with narrow experts computes what is expected for most tokens.

    Not for all: where a router scores two experts alike, rounding decides which of them it takes.
    """
    try:
        narrow = narrowed(probe.layer, [(mixture, count)], options=[options])
        result = probe.run(layer=narrow).result
    except (RuntimeError, ValueError, IndexError):  # shapes that do not fit
        return False
    gaps = (result - expected).abs().amax(dim=-1)  # (batch, tokens)
    # a wrong reading changes the result entirely
    close = gaps <= rounding(expected) * (expected - probe.hidden).std()
    return bool(close.float().mean() >= _AGREEING_TOKENS)


def _is_choice(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim == 2 and not value.is_floating_point()


def _router(probe: LayerProbe, holder: str, chosen: Tensor) -> str:
    """Return the innermost module that returned the chosen experts."""
    paths: list[str] = []

    def recorder(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _args: object, output: object) -> None:
            values = output if isinstance(output, tuple) else ()
            if any(_is_choice(value) and torch.equal(value, chosen) for value in values):
                paths.append(path)

        return hook

    modules = {path: m for path, m in probe.layer.named_modules() if path and path != holder}
    hooks = [module.register_forward_hook(recorder(path)) for path, module in modules.items()]
    with hooked(hooks):
        probe.run()
    if not paths:
        raise StructureError(
            f"the experts of `{probe.path}.{holder}` must be chosen by a module of their layer, "
            "and none gives what they are handed; these experts cannot be read"
        )
    return paths[0]


def _around(mixture: Mixture) -> list[str]:
    """Return the paths of router, holder and the module around both."""
    paths = [*mixture.paths]
    parent = mixture.holder.rpartition(".")[0]
    return [*paths, parent] if parent else paths


def _integers(probe: LayerProbe, mixture: Mixture, value: int) -> list[tuple[str, str]]:
    """Return module path and name of the mixture's integers that have some value."""
    return [
        (path, name)
        for path in _around(mixture)
        for name, attribute in vars(probe.layer.get_submodule(path)).items()
        if type(attribute) is int and attribute == value
    ]


def _following(probe: LayerProbe, mixture: Mixture) -> Iterator[tuple[tuple[str, str], ...]]:
    """Yield sets of integers that may follow the number of experts.

    First all that are named after experts, then sets of rising size.
    """
    candidates = _integers(probe, mixture, mixture.member_count)
    named = tuple((path, name) for path, name in candidates if "expert" in name)
    yield named
    for size in range(_MOST_FOLLOWING + 1):
        yield from (chosen for chosen in combinations(candidates, size) if chosen != named)


def _group_counts(probe: LayerProbe, mixture: Mixture) -> list[int]:
    """Return possible numbers of groups: 1, or an integer of the router."""
    attributes = vars(probe.layer.get_submodule(mixture.router)).values()
    count = mixture.member_count
    sizes = {v for v in attributes if type(v) is int and 1 < v < count}
    return [1, *sorted(size for size in sizes if count % size == 0)]


def _with_masked_experts(probe: LayerProbe, mixture: Mixture, members: NDArray[np.int_]) -> Tensor:
    """Run the dense layer with all but some experts masked in the router."""
    masked = torch.ones(mixture.member_count, dtype=torch.bool)
    masked[torch.from_numpy(members)] = False
    with masked_router(probe.layer, mixture, masked):
        return probe.run().result


def _with_limits(probe: LayerProbe, mixture: Mixture) -> Mixture:
    """Find the fewest units that the router can choose from, and whether fewer experts may run."""
    dense_groups = _groups_chosen(probe, mixture, mixture.unit_count)
    for count in range(-(-mixture.top_k // mixture.group_count), mixture.unit_count + 1):
        chosen = _groups_chosen(probe, mixture, count)
        if chosen and chosen <= dense_groups:
            return _with_top_k(probe, replace(mixture, lowest=count))
    raise AssertionError("a router that chooses among all experts chooses among none")


def _groups_chosen(probe: LayerProbe, mixture: Mixture, count: int) -> int:
    """Return the largest number of groups of one token's experts; 0: the router cannot choose."""
    try:
        chosen = _chosen(probe, mixture, count)
    except (RuntimeError, ValueError, IndexError):
        return 0
    sorted_groups = torch.sort(chosen // count, dim=-1).values
    return int((sorted_groups.diff(dim=-1) != 0).sum(dim=-1).max()) + 1


def _chosen(probe: LayerProbe, mixture: Mixture, count: int, top_k: int = 0) -> Tensor:
    """Return the experts that a narrow router chooses, ``(tokens, top_k)``."""
    hidden = probe.arguments(mixture.router)[0]
    narrow = graft(probe.layer, narrow_modules(probe.layer, mixture, count))
    set_counts(narrow, mixture, count * mixture.group_count, top_k)
    output = narrow.get_submodule(mixture.router)(hidden)
    chosen: Tensor = next(value for value in output if _is_choice(value))
    return chosen


def _with_top_k(probe: LayerProbe, mixture: Mixture) -> Mixture:
    """Find the integers that set how many experts run for a token."""
    if mixture.top_k < 2:
        return mixture
    fewer = mixture.top_k - 1
    for size in (1, 2):
        for names in combinations(_integers(probe, mixture, mixture.top_k), size):
            trial = replace(mixture, top_k_attributes=names)
            try:
                chosen = _chosen(probe, trial, mixture.unit_count, fewer)
            except (RuntimeError, ValueError, IndexError):
                continue
            if chosen.shape[-1] == fewer and int(chosen.max()) < mixture.member_count:
                return trial
    return mixture
