"""MultiPruner: whole components first, then channels, then heads."""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from planner.searchers.problem.descent import ROUNDING, Descent
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.scripted import Script, ScriptedSearcher
from planner.searchers.protocol import Genomes
from planner.searchers.published.greedy import PACE
from search_spaces.space.block_options import SITE_NAMES

Stage = Literal["blocks", "mlp", "attention", "options"]
Split = tuple[float, float, float]

_STAGES: tuple[Stage, ...] = ("blocks", "mlp", "attention")
_LAST: Stage = "options"
_STAGE_OF: Mapping[str, Stage] = {
    "experts": "mlp",
    "shared": "mlp",
    **dict.fromkeys(SITE_NAMES.values(), _LAST),
}
"""Of kinds of sites that are not a stage themselves."""
_STEPS_PER_SITE = 8


class MultiPruner(ScriptedSearcher):
    """Prunes to one budget in three stages, in each always by the removal of the lowest KL.

    As published: residual blocks, that is attentions and MLPs one by one, are dropped until their
    share of the budget is reached, then channels of the MLPs kept, then heads of the
    attentions kept; no MLP and no attention is narrowed to nothing. Different here: KL to the
    dense model takes the place of perplexity; a step of channels saves an eighth of what the
    largest site holds, and not always 1,024 channels; the best steps of channels or heads are
    taken together until they have covered a part of the descent; the last step is only as large
    as is needed; a block that alone would pass the whole budget is kept, if channels or heads can
    be pruned instead; where a stage has nothing to prune the others take its share, and where one
    runs out the later ones do.

    Where sites are whole layers, layers are the blocks. Where the kinds of the sites are not
    known, each is dropped in the first stage and narrowed in both others. Experts, and the shared
    one, take an MLP's place. Options of what is kept, such as sparsity or a number format, are
    lowered only where no stage can save any more, as the published method has none of them.

    Args:
        domain: Sites, levels and costs.
        split: What blocks, channels and heads give, in any unit; published for Llama-2-7B.
        pace: Part of the descent that steps of channels or heads taken together cover.

    References:
        Muñoz, Yuan & Jain, 2025, "MultiPruner: Balanced Structure Removal in Foundation Models".
    """

    def __init__(
        self, domain: Domain, *, split: Split = (44.0, 52.0, 4.0), pace: float = PACE
    ) -> None:
        descent = Descent.to_budget(domain)
        super().__init__(_script(descent, split, pace), len(domain.top_levels))


def _script(descent: Descent, split: Split, pace: float) -> Script:
    genome = descent.domain.top_levels
    for stage, goal, fitting in _phases(descent, split):
        while (distance := float(descent.remaining(genome[None])[0]) - goal) > ROUNDING:
            size = min(descent.largest_site / _STEPS_PER_SITE, distance)
            steps = _steps(descent, genome, stage, size)
            if fitting:
                steps = steps[descent.remaining(steps) > 0]
            if not len(steps):
                break
            kls = yield np.concatenate([genome[None], steps])
            best = steps[np.argsort(kls[1:], kind="stable")]
            if stage == "blocks":
                genome = best[0]
            else:
                genome = descent.joined(genome, best, min(pace, distance), size)
    yield genome[None]


def _phases(descent: Descent, split: Split) -> Iterator[tuple[Stage, float, bool]]:
    """Yield each stage, the distance after it, and whether no step may pass the target."""
    dense = descent.domain.top_levels
    shares = {
        stage: share
        for stage, share in zip(_STAGES, split, strict=True)
        if len(_steps(descent, dense, stage, 1.0))
    }
    total, reached = sum(shares.values()), 0.0
    for stage, share in shares.items():
        reached += share
        yield stage, max(0.0, 1 - reached / total), stage == "blocks" and len(shares) > 1
    # for what the stages could not reach: finest first, so that the last step passes it by least
    for stage in (*reversed(_STAGES), _LAST):
        yield stage, 0.0, False


def _steps(descent: Descent, genome: Genomes, stage: Stage, least: float) -> Genomes:
    """Return every step of a stage from a genome, ``(genomes, sites)``."""
    kinds = np.array([_STAGE_OF.get(kind, kind) for kind in descent.domain.kinds])
    kinds = kinds if len(kinds) else np.full(len(genome), stage)
    if stage != "blocks":
        sites = np.flatnonzero(kinds == stage).tolist()
        return descent.lowered(genome, sites, least, lowest=0 if stage == _LAST else 1)
    kept_blocks = np.flatnonzero((genome > 0) & (kinds != _LAST))
    dropped = np.tile(genome, (len(kept_blocks), 1))
    dropped[np.arange(len(kept_blocks)), kept_blocks] = 0
    return dropped[descent.remaining(dropped) < descent.remaining(genome[None])]
