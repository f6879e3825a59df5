"""How sparse each component's weights should be: a search over all against uniform and OWL."""

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.contest import Contest, kl_cells, text_name
from benchmarks.report import Goal, Row, finish, is_quick
from evaluators.costs.cost_model import CostModel
from evaluators.metric import Measurement
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from planner.preparation.prepared_model import PreparedModel
from planner.results.significance import compare_kl
from planner.settings.search import SearchSettings
from search_spaces.priors import global_magnitude, lamp
from search_spaces.space.block_options import combined_options
from search_spaces.space.configuration import ConfigurationTables, unit_counts
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.surgery.layer_builder import LayerBuilder

SHARES = (0.6, 0.7)
"""Zeros among the weights of all linear layers of attentions and MLPs."""
NOTES = f"""
SmolLM2-135M-Instruct in float32; each attention and each MLP is as sparse as an allocation sets,
the search's in steps of 10 %, at most 90 %, the others' to a per cent. The weights are made sparse
by the default sparsifier, {SearchSettings(model="").sparsifier}, whoever allocates. All of a row
have as many non-zero parameters as uniform, or (the search) at most so many.
*searched*: `--searcher frontier --focus budget --space
sparsity`. *OWL*: M = 5, λ = 0.08. *LAMP* and *global magnitude* (every matrix keeps a tenth): one
threshold on the score over all components; scores allocate, the sparsifier chooses weights.

Each cell: KL to the dense model on hold-out text, nats a token, with its error. *gain*: how much
lower the search's is, by paired differences on the windows, and in brackets whether Student's t
test (97.5 %) takes it for lower. The figure counts comparisons, of the two with uniform and the
two with OWL, in which it does.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    contest = Contest(
        0,
        space="sparsity",
        prior="owl",
        search_windows=8 if is_quick() else 64,
        window_tokens=128,
        rungs=3 if is_quick() else 5,
        holdout_windows=24 if is_quick() else 64,
        fresh_windows=2,
        budget="nonzero<=0.5x",
    )
    rows: list[Row] = []
    won = 0
    for share in SHARES:
        kls = _measured(contest, share)
        gains = {name: compare_kl(kls["searched"], kls[name]) for name in ("uniform", "OWL")}
        won += sum(verdict == "better" for _, verdict in gains.values())
        rows.append({"zeros": f"{share:.0%}", **kl_cells(kls, gains)})
    goal = Goal(figure="won of 4", value=float(won), limit=4.0, at_least=True)
    text = f"Text: {text_name()}; {_tokens():,} candidate tokens a search."
    return finish("sparsity", rows, [goal], f"{NOTES.strip()}\n\n{text}", seed=0)


def _tokens() -> int:
    return 45_000 if is_quick() else 400_000


def _measured(contest: Contest, share: float) -> dict[str, Measurement]:
    """Return the hold-out KL of each allocation."""
    prepared = contest.prepared
    uniform = prepared.space.top_levels - round(share / 0.1)
    most = prepared.costs_of(uniform)["nonzero"]
    budget = f"nonzero<={most:.0f}"
    run = contest.run(
        f"searched-{share}", budget=budget, focus="budget", searcher="frontier", tokens=_tokens()
    ).run
    zeros = {
        "uniform": np.full(len(prepared.space.components), share),
        "OWL": share - _tilts(prepared),
        "LAMP": _threshold(prepared, share, lamp.pattern_sensitivities),
        "global magnitude": _threshold(prepared, share, global_magnitude.pattern_sensitivities),
    }
    searched = prepared.space.configurations(np.array([run.best(budget).genome]))[0]
    percent = {name: np.round(100 * own).astype(np.int_) for name, own in zeros.items()}
    percent["searched"] = 10 * prepared.space.tables.options_index(searched)
    return {name: _scored(contest, own, most) for name, own in percent.items()}


def _scored(contest: Contest, percent: NDArray[np.int_], most: float) -> Measurement:
    """Score an allocation with its own zeros, ``(components,)``, whatever the search's levels."""
    prepared = contest.prepared
    structure, widths = prepared.dense.structure, unit_counts(prepared.space.components)
    patterns = [SparsityPattern(percent=number) for number in range(100)]
    block_options = [combined_options(patterns)] * len(widths)
    costs = CostModel(
        structure,
        stored=prepared.dense.loaded.stored,
        context=1,
        block_options=block_options,
    )
    configurations = ConfigurationTables.of(structure.components, block_options).index(
        widths, percent
    )
    # an allocation in whole per cent may pass the budget by the rounding of a component
    assert costs.costs(configurations[None])["nonzero"][0] <= 1.005 * most
    layer_builder = LayerBuilder(
        prepared.sorted_model, block_options, prepared.layer_builder.weight_source
    )
    windows, fidelity = prepared.calibration.holdout, Fidelity(metrics=("kl",), state_bytes=0)
    ((_, score),) = Evaluator(
        prepared.sorted_model, windows, fidelity, layer_builder=layer_builder
    ).score(configurations[None])
    return score.quality["kl"]


def _tilts(prepared: PreparedModel) -> NDArray[np.float64]:
    assert prepared.prior.tilts is not None
    return prepared.prior.tilts


def _threshold(
    prepared: PreparedModel, share: float, rule: Callable[..., NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return the zeros of each component where one threshold on a score removes a share of all."""
    patterns = [SparsityPattern(percent=number) for number in range(0, 100, 2)]
    weights = [weights for _, weights in prepared.dense.structure.matrices()]
    sizes = np.array([sum(weight.numel() for weight in own.values()) for own in weights])
    sensitivities = np.array([rule(own, patterns) for own in weights])
    rates = np.diff(sensitivities, axis=1) / sizes[:, None]
    order = np.argsort(np.maximum.accumulate(rates, axis=1), axis=None, kind="stable")
    components = order // rates.shape[1]
    taken = np.cumsum(0.02 * sizes[components]) <= share * sizes.sum()
    return np.asarray(0.02 * np.bincount(components[taken], minlength=len(sizes)), np.float64)


if __name__ == "__main__":
    sys.exit(main())
