"""Greedy removal: from the dense model down, always the step that raises KL least."""

import numpy as np

from planner.searchers.problem.descent import Descent
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.scripted import Script, ScriptedSearcher

PACE = 1 / 20
"""Part of the descent to the target that a round of steps covers: about twenty rounds."""
_STEPS_PER_SITE = 4


class Greedy(ScriptedSearcher):
    """Lowers one site a step, each time the one with the least rise of KL for what it saves.

    Where sites are kept or dropped as a whole this is a published method: on whole layers SLEB,
    on attentions and MLPs BlockPruner and FinerCut. All of them try every removal at each step
    and keep the best; SLEB and BlockPruner judge by perplexity, FinerCut by the change of the
    model's output, and here it is the KL to the dense model. Published steps do not weigh what is
    saved: where removals save the same this makes no difference.

    New here are sites of many levels. A step takes one to the next level that saves a quarter of
    what the largest site holds, and the best steps are taken together until they have covered a
    part of the descent, as one step at a time would take thousands of plans. The last is only as
    large as is needed. Of several costs all that are limited count alike.

    Args:
        domain: Sites, levels and costs.
        pace: Part of the descent that steps taken together cover, where sites have many levels.

    References:
        Song, Oh, Kim, Kim, Kim & Kim, 2024, "SLEB: Streamlining LLMs through Redundancy
        Verification and Elimination of Transformer Blocks"; Zhong, Wan, Chen, Quan & Li, 2024,
        "BlockPruner: Fine-grained Pruning for Large Language Models"; Zhang, Li, Wang, Shen,
        Plank, Bischl, Rezaei & Kawaguchi, 2024, "FinerCut: Finer-grained Interpretable Layer
        Pruning for Large Language Models".
    """

    def __init__(self, domain: Domain, *, pace: float = PACE) -> None:
        super().__init__(_script(Descent.to_end(domain), pace), len(domain.top_levels))


def _script(descent: Descent, pace: float) -> Script:
    genome = descent.domain.top_levels
    # where sites are kept or dropped as a whole, one is dropped at a time, as published
    most_steps = len(genome) if genome.max() > 1 else 1
    size = descent.largest_site / _STEPS_PER_SITE
    while True:
        steps = descent.lowered(genome, range(len(genome)), size)
        kls = yield np.concatenate([genome[None], steps])
        if not len(steps):
            break
        saved = descent.remaining(genome[None]) - descent.remaining(steps)
        order = np.argsort((kls[1:] - kls[0]) / saved, kind="stable")
        genome = descent.joined(genome, steps[order[:most_steps]], pace, size)
