"""The prefix tree against candidates scored one by one, on SmolLM2-135M."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import bare_products, duel, heads, sides
from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.smollm2 import CHILDREN_EACH, SEED, Text, open_prepared, param_domain
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.passes.population_pass import HEADS_AT_ONCE
from evaluators.scoring.readout import Readout
from planner.preparation.prepared_model import PreparedModel
from planner.searchers import make_searcher, protocol
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import uneven_tilt
from search_spaces.structure.backbone import LayerCall

CHILDREN = 32
PARENT_COST = 0.8
SEARCH_ROUNDS = 5

NOTES = f"""
**First table.** Scores of a set of candidates of SmolLM2-135M-Instruct, each on the same text,
computed twice: as one population by the prefix tree (`Evaluator.score` once) and separately
(`Evaluator.score` once for each candidate, narrow layers as views here too). Both give the same
scores, bit for bit; a difference stops the benchmark.

- single sites: each of the 60 components dropped by itself.
- offspring: {CHILDREN} children of one uneven plan at {PARENT_COST} of the dense parameters, each
  with one to three sites set to another level, sites and levels uniform.
- nsga2: what NSGA-II asks for in round {SEARCH_ROUNDS + 1} of populations of {CHILDREN}. In the
  rounds before it was given true parameter counts and an invented, additive quality, so that
  they took no time. It has no goal.

*saved* counts components executed and does not depend on the machine. *time* is wall time of the
tree over that of separate scoring, in one process, in turns of a few candidates each; medians of
the repeats. It includes everything, the head above all: a candidate by itself computes the
teacher's logits besides its own, whereas a population in 16 bits computes them once for
{HEADS_AT_ONCE} candidates. *layers* is the same ratio of the time inside the layers alone, where
the prefix tree is at work; *rest* is that of all other work: head, comparison, slicing. *layers of
separate* is the share of its time that separate scoring spends inside layers, *readout of tree*
that of the tree in the head and what follows. The dense pass that both sides
begin with is in none of them.
"""


@dataclass
class Side:
    """What one way of scoring a set of candidates took."""

    runs: int = 0
    """Components executed."""
    seconds: float = 0.0
    layer_seconds: float = 0.0
    readout_seconds: float = 0.0


class Meter:
    """Reads what an evaluator spends: time, time inside layers, components executed."""

    def __init__(self, judge: Evaluator) -> None:
        self._tree = judge.tree
        self._layer_seconds = self._readout_seconds = 0.0
        self._time_readouts()
        backbone = judge.tree.structure.backbone
        self._run_layer = backbone.run_layer
        backbone.run_layer = self._timed  # type: ignore[method-assign]

    @contextmanager
    def charged_to(self, side: Side) -> Iterator[None]:
        """Add what is spent inside to a side's account."""
        runs, layers = self._tree.component_runs, self._layer_seconds
        readout = self._readout_seconds
        started = time.perf_counter()
        yield
        side.seconds += time.perf_counter() - started
        side.layer_seconds += self._layer_seconds - layers
        side.readout_seconds += self._readout_seconds - readout
        side.runs += self._tree.component_runs - runs

    def _timed(self, layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        started = time.perf_counter()
        result = self._run_layer(layer, hidden, call)
        self._layer_seconds += time.perf_counter() - started
        return result

    def _time_readouts(self) -> None:
        compare = Readout.compare

        def timed(readout: Readout, *args: Any) -> list[dict[str, NDArray[np.float64]]]:
            started = time.perf_counter()
            result = compare(readout, *args)
            self._readout_seconds += time.perf_counter() - started
            return result

        Readout.compare = timed  # type: ignore[assignment, method-assign]


def main() -> int:
    """Measure, report, and return the exit status."""
    tree_text = Text(windows=2, tokens=64)
    naive_text = Text(windows=8 if is_quick() else 12, tokens=64)
    repeats, runs = (1, 1) if is_quick() else (3, 3)
    shared = compare_with_separate(open_prepared(tree_text), repeats)
    naive, ours = equal_tokens(naive_text, repeats)
    read_out, faster = heads.compared(repeats)
    row, least = bare_products.compared(open_prepared(bare_products.TEXT), repeats)
    notes = (
        f"{NOTES.strip()}\n\n{duel.NOTES.strip()}\n\n{heads.NOTES.strip()}\n\n"
        f"{bare_products.NOTES.strip()}\n\n"
        f"Text: Python's own help topics, {tree_text.windows} windows of {tree_text.tokens} "
        "tokens for the first table, "
        f"{naive_text.windows} of {naive_text.tokens} for the second; {repeats} repeat(s).\n\n"
        f"{sides.NOTES.strip()} Here the work is ours of the second table, the decision on "
        f"{duel.FAMILIES * CHILDREN_EACH} children; {runs} run(s) of each side."
    )
    beside = sides.compared("forward", naive_text, runs)
    goals = [
        *goals_of(shared[0], saved=0.45, time_ratio=0.7),
        *goals_of(shared[1], saved=0.2, time_ratio=0.9),
        Goal(
            figure="of offspring's time in the readout",
            value=float(shared[1]["readout of tree"]),
            limit=0.2,
            at_least=False,
            percent=True,
        ),
        *faster,
        least,
        Goal(
            figure=f"of naive scoring in {duel.FASTER} at equal tokens",
            value=float(ours[f"time, {duel.FASTER}"]),
            limit=0.4,
            at_least=False,
        ),
    ]
    rows = [*shared, naive, ours, *read_out, row, *beside]
    return finish("forward", rows, goals, notes, seed=SEED)


def compare_with_separate(prepared: PreparedModel, repeats: int) -> list[Row]:
    """Score three sets of candidates as populations and one by one."""
    judge = Evaluator(prepared.sorted_model, prepared.calibration.search, Fidelity(state_bytes=0))
    meter = Meter(judge)
    rng = np.random.default_rng(SEED)
    domain = param_domain(prepared)
    return [
        summary(name, len(counts), [compare(judge, meter, counts) for _ in range(repeats)])
        for name, counts in (
            ("single sites", single_drops(prepared)),
            ("offspring", prepared.space.configurations(switched(domain, rng))),
            ("nsga2", prepared.space.configurations(later_generation(domain, rng))),
        )
    ]


def equal_tokens(text: Text, repeats: int) -> tuple[Row, Row]:
    """Score the offspring of four plans on all of the text, against naive scoring."""
    prepared = open_prepared(text)
    engine = Evaluator(prepared.sorted_model, prepared.calibration.search)
    both = duel.Duel(prepared)
    elders = dict(engine.score(both.elders))
    base = [elders[family].quality["kl"].value for family in range(duel.FAMILIES)]
    engine.expect(both.elders)

    def decide(counts: NDArray[np.int_]) -> tuple[list[int], int]:
        scores = dict(engine.score(counts))
        kls = np.array([scores[member].quality["kl"].value for member in range(len(counts))])
        chosen = duel.lowest(kls / np.repeat(base, CHILDREN_EACH))
        return chosen, sum(score.tokens for score in scores.values())

    return both.fight(decide, repeats)


def single_drops(prepared: PreparedModel) -> NDArray[np.int_]:
    """Each component dropped by itself, ``(candidates, components)``."""
    dense = prepared.space.configurations(prepared.space.top_levels[None])[0]
    dropped = np.tile(dense, (len(dense), 1))
    np.fill_diagonal(dropped, 0)
    return dropped


def switched(domain: Domain, rng: np.random.Generator) -> NDArray[np.int_]:
    """Children of one plan with one to three levels switched, ``(genomes, sites)``."""
    parent = domain.tilted(PARENT_COST, uneven_tilt(domain, rng))
    children = np.tile(parent, (CHILDREN, 1))
    for child in children:
        for site in rng.choice(len(parent), size=rng.integers(1, 4), replace=False):
            others = np.delete(np.arange(domain.top_levels[site] + 1), parent[site])
            child[site] = rng.choice(others)
    return children


def later_generation(domain: Domain, rng: np.random.Generator) -> NDArray[np.int_]:
    """What NSGA-II asks for after some rounds on an invented quality, ``(genomes, sites)``."""
    searcher = make_searcher(
        "nsga2", domain, population=CHILDREN, seed=SEED, text=protocol.Text(rungs=(1,), tokens=1)
    )
    weights = rng.exponential(size=len(domain.top_levels))
    ask = searcher.ask()
    for _ in range(SEARCH_ROUNDS):
        removed = 1 - ask.genomes / domain.top_levels
        objectives = np.stack([removed**2 @ weights, domain.cost(ask.genomes)], axis=1)
        searcher.tell(ask, protocol.Answer(objectives=objectives, seen=np.ones(len(objectives))))
        ask = searcher.ask()
    return ask.genomes


def compare(judge: Evaluator, meter: Meter, counts: NDArray[np.int_]) -> tuple[Side, Side]:
    """Score candidates as one population and, as each one lands, by itself.

    The turns are short, so that whatever else the machine does slows both sides alike.

    Returns:
        What the population took, and what separate scoring took.
    """
    together, separate = Side(), Side()
    population = judge.score(counts)
    for _ in counts:
        with meter.charged_to(together):
            member, score = next(population)
        with meter.charged_to(separate):
            ((_, alone),) = judge.score(counts[member][None])
        assert alone.quality == score.quality, (
            "the prefix tree gives another score than a separate pass"
        )
    return together, separate


def summary(name: str, count: int, repeats: list[tuple[Side, Side]]) -> Row:
    """Return one line of the table: medians over the repeats, of ratios inside a repeat."""

    def median(value: Callable[[Side, Side], float]) -> float:
        return statistics.median(value(*sides) for sides in repeats)

    together, separate = repeats[0]
    return {
        "candidates": name,
        "count": count,
        "runs, separate": separate.runs,
        "runs, tree": together.runs,
        "saved": 1 - together.runs / separate.runs,
        "s, separate": median(lambda _, alone: alone.seconds),
        "s, tree": median(lambda tree, _: tree.seconds),
        "time": median(lambda tree, alone: tree.seconds / alone.seconds),
        "layers": median(lambda tree, alone: tree.layer_seconds / alone.layer_seconds),
        "rest": median(
            lambda tree, alone: (
                (tree.seconds - tree.layer_seconds) / (alone.seconds - alone.layer_seconds)
            )
        ),
        "layers of separate": median(lambda _, alone: alone.layer_seconds / alone.seconds),
        "readout of tree": median(lambda tree, _: tree.readout_seconds / tree.seconds),
    }


def goals_of(row: Row, *, saved: float, time_ratio: float) -> list[Goal]:
    """Return the two goals of one set of candidates."""
    name = row["candidates"]
    return [
        Goal(
            figure=f"{name} save",
            value=float(row["saved"]),
            limit=saved,
            at_least=True,
            percent=True,
        ),
        Goal(
            figure=f"{name} take",
            value=float(row["time"]),
            limit=time_ratio,
            at_least=False,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
