"""How sparse each sub-block's weights should be: a search over all against uniform and OWL."""

import sys
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from evaluators.evaluator import Evaluator, Fidelity
from evaluators.metric import Measurement
from planner.scoring import Scorer
from planner.searchers.additive import additive_best
from planner.searchers.domain import Domain
from planner.settings import SearchSettings
from planner.verdict import Verdict, judged
from planner.workbench import Workbench
from search_spaces.allocations import global_magnitude, lamp
from tests.benchmarks.contest import Contest, text_name
from tests.benchmarks.report import Goal, Row, finish, is_quick

SHARES = (0.6, 0.7)
"""Zeros among the weights of all linear layers of attentions and MLPs."""
NOTES = f"""
SmolLM2-135M-Instruct in float32; each attention and each MLP is as sparse as an allocation says,
in steps of 10 %, at most 90 %; its weights are made sparse by the default sparsifier,
{SearchSettings(model="").sparsifier}, whoever allocates. All plans of a row have at most as many
non-zero parameters as the uniform one. *searched*: `--searcher frontier --focus budget --space
sparsity`. *OWL*: M = 5, λ = 0.08. *LAMP* and *global magnitude* (every matrix keeps a tenth): one
threshold on the score over all sub-blocks; scores allocate, the sparsifier chooses weights.

Each cell: KL to the dense model on hold-out text, nats a token, with its error. *gain*: how much
lower the search's is, by paired differences on the windows, and in brackets whether Student's t
test (97.5 %) takes it for lower. The figure counts comparisons, of the two with uniform and the
two with OWL, in which it does.
"""


def main() -> int:
    """Measure, report, and give the exit status."""
    contest = Contest(
        0,
        space="sparsity",
        guess="owl",
        windows=16 if is_quick() else 64,
        window_tokens=128,
        rungs=3 if is_quick() else 5,
        holdout_windows=32 if is_quick() else 64,
        fresh_windows=2,
        budget="nonzero<=0.5x",
    )
    rows, won = [], 0
    for share in SHARES:
        found = _measured(contest, share)
        gains = {name: judged(found["searched"], found[name]) for name in ("uniform", "OWL")}
        won += sum(verdict == "better" for _, verdict in gains.values())
        rows.append(_row(share, found, gains))
    goal = Goal(figure="won of 4", value=float(won), limit=4.0, at_least=True)
    text = f"Text: {text_name()}; {_tokens():,} candidate tokens a search."
    return finish("sparsity", rows, [goal], f"{NOTES.strip()}\n\n{text}", seed=0)


def _tokens() -> int:
    return 40_000 if is_quick() else 400_000


def _measured(contest: Contest, share: float) -> dict[str, Measurement]:
    """Give the hold-out KL of each allocation."""
    bench = contest.bench
    uniform = bench.space.top_levels - round(share / 0.1)
    most = bench.costs_of(uniform)["nonzero"]
    budget = f"nonzero<={most:.0f}"
    limit = most / bench.dense.costs.dense()["nonzero"]
    domain = bench.domain({"nonzero": limit}, limit, only_budget=True)
    run = contest.run(
        f"searched-{share}", budget=budget, focus="budget", searcher="frontier", tokens=_tokens()
    ).run
    genomes = {
        "searched": np.array(run.best(budget).genome),
        "uniform": uniform,
        "OWL": domain.tilted_within(domain.tilt, domain.allowed),
        "LAMP": _threshold(bench, domain, "lamp"),
        "global magnitude": _threshold(bench, domain, "global_magnitude"),
    }
    for name, genome in genomes.items():
        assert bench.costs_of(genome)["nonzero"] <= most, name
    scorer = Scorer(
        bench,
        Evaluator(
            bench.dense.structure,
            bench.calibration.holdout,
            Fidelity(state_bytes=0),
            shaper=bench.shaper,
        ),
    )
    scored = scorer.score(np.array(list(genomes.values())))
    by_index = {index: found.quality["kl"] for index, found in scored}
    return {name: by_index[index] for index, name in enumerate(genomes)}


def _threshold(bench: Workbench, domain: Domain, name: str) -> NDArray[np.int_]:
    """Give the plan by one threshold on a score of all weights."""
    rule = lamp.pattern_harms if name == "lamp" else global_magnitude.pattern_harms
    harms = [
        rule(weights, bench.space.patterns)[::-1]
        for _, weights in bench.dense.structure.matrices()
    ]
    return additive_best(domain, harms, [cost.limit for cost in domain.costs])


def _row(
    share: float,
    found: Mapping[str, Measurement],
    gains: Mapping[str, tuple[Measurement, Verdict]],
) -> Row:
    row: dict[str, str | float] = {"zeros": f"{share:.0%}"}
    for name, kl in found.items():
        row[name] = f"{kl.value:.3f} ± {kl.standard_error:.3f}"
    for name, (gain, verdict) in gains.items():
        row[f"gain on {name}"] = f"{gain.value:.3f} ± {gain.standard_error:.3f} ({verdict})"
    return row


if __name__ == "__main__":
    sys.exit(main())
