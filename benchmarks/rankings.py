"""Which units and weights to prune, and how to compensate: importances × compensations."""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from torch import Tensor

from benchmarks.contest import text_name
from benchmarks.laboratory import Laboratory, Matrices, Quality, weights_of
from benchmarks.report import Goal, Row, finish, is_quick
from planner.results.significance import compare_kl
from planner.settings.search import SearchSettings
from search_spaces.importance import UnitImportanceName
from search_spaces.pruned_weights.compensation import CompensationName
from search_spaces.pruned_weights.refinements import RefinementName
from search_spaces.pruned_weights.sparsifiers import SparsifierName
from search_spaces.space.block_options import combined_options
from search_spaces.space.choices import Choices
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.statistics import MatrixStatistics
from search_spaces.surgery.layer_builder import LayerBuilder
from tests.models.references import sparsegpt_reference, wanda_reference

LOWER = 3.0
"""How much lower the default's KL is to be than plain magnitude's at 20 % joint width pruning."""
REFERENCE = 0.02
"""Of the reference's perplexity."""
PATTERNS = tuple(
    map(SparsityPattern.parse, ("50%", "2:4") if is_quick() else ("50%", "60%", "2:4"))
)
JOINT = "joint 20 %"
PUBLISHED_WIDTH: tuple[tuple[str, UnitImportanceName, CompensationName | None], ...] = (
    ("magnitude", "magnitude", None),
    ("Wanda", "wanda", None),
    ("FLAP", "flap", "bias"),
    ("LLM-Pruner", "taylor", None),
    ("Fisher of masks", "fisher", None),
    ("GBLM-Pruner", "gblm", None),
    ("Minitron", "activation", None),
    ("CFSP", "cfsp", None),
    ("ZipLM, DarwinLM", "obs", "obs"),
)
PUBLISHED_SPARSE: tuple[tuple[str, SparsifierName, RefinementName | None], ...] = (
    ("magnitude", "magnitude", None),
    ("Wanda", "wanda", None),
    ("GBLM-Pruner", "gblm", None),
    ("Pruner-Zero", "pruner_zero", None),
    ("SparseGPT", "sparsegpt", None),
    ("Wanda + DSnoT", "wanda", "dsnot"),
    ("Wanda + ADMM", "wanda", "admm"),
)
NOTES = f"""
SmolLM2-135M-Instruct in float32, weights rounded to the type that an export stores. *Width*: every
MLP loses the same share of its channels; of KV groups (three a layer) the share is that of all
groups, spread evenly over the layers; *{JOINT}* is both. *Sparse*: all linear layers of attentions
and MLPs. Each cell: KL to the dense model on hold-out text, nats a token, and in brackets
perplexity with its error. All statistics come from one pass over other text, of the dense model;
published methods are used as importances at the same uniform widths, without their own allocation
over layers and without training. *default* is what `planner search` does where nothing is said.

*lower*: KL of plain magnitude over that of the default at {JOINT}. *behind*: columns in which a
published method is significantly better than the default (paired t test on the windows, 2.5 %).
*reference*: largest relative difference of the perplexity of our Wanda and SparseGPT from slow,
literal implementations of the published algorithms (`tests/models/references.py`) on the same
matrices
and statistics. Published SparseGPT and Wanda take each layer's inputs from the model as pruned so
far; here, as in the reference, all inputs are the dense model's, for levels are chosen later.
"""


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to prune, and whether it is a published one."""

    name: str
    how: str
    published: bool = False
    default: bool = False


Scored = dict[str, Quality]
"""By column of the table."""


def main() -> int:
    """Measure, report, and return the exit status."""
    laboratory = Laboratory(
        calibration_windows=40 if is_quick() else 128,
        holdout_windows=8 if is_quick() else 32,
        tokens=128,
    )
    widths = dict(_widths(laboratory))
    sparse = dict(_sparse(laboratory))
    references = dict(_references(laboratory))
    rows = [_row("width", method, scored) for method, scored in widths.items()]
    rows += [_row("sparse", method, scored) for method, scored in sparse.items()]
    rows += [{"reference": name, "off by": gap} for name, gap in references.items()]
    default = _default(widths)
    magnitude = next(s for m, s in widths.items() if m.name == "magnitude" and m.published)
    lower = magnitude[JOINT].kl.value / default[JOINT].kl.value
    behind = _behind(widths) + _behind(sparse)
    goals = [
        Goal(figure="lower", value=lower, limit=LOWER, at_least=True),
        Goal(figure="behind", value=float(len(behind)), limit=0.0, at_least=False),
        Goal(
            figure="reference",
            value=max(references.values()),
            limit=REFERENCE,
            at_least=False,
            percent=True,
        ),
    ]
    beaten = f"Significantly ahead of the default: {'; '.join(behind) or 'none'}."
    return finish(
        "rankings", rows, goals, f"{NOTES.strip()}\n\nText: {text_name()}. {beaten}", seed=0
    )


def _widths(laboratory: Laboratory) -> Iterator[tuple[Method, Scored]]:
    cuts = {
        "channels 20 %": laboratory.uniform(channels=0.2),
        "groups 20 %": laboratory.uniform(groups=0.2),
        JOINT: laboratory.uniform(channels=0.2, groups=0.2),
    }
    if not is_quick():
        cuts["channels 40 %"] = laboratory.uniform(channels=0.4)
        cuts["groups 40 %"] = laboratory.uniform(groups=0.4)
    default = SearchSettings(model="")
    chosen = (default.importance, default.compensate.compensation)
    published = {
        (importance, compensation): name for name, importance, compensation in PUBLISHED_WIDTH
    }
    importances: tuple[UnitImportanceName, ...] = get_args(UnitImportanceName)
    for importance in importances:
        laboratory.sort(importance)
        for compensation in _compensations(importance, chosen):
            layer_builder = laboratory.layer_builder(compensation=compensation)
            how, name = (importance, compensation), f"{importance} + {compensation or 'none'}"
            method = Method(
                name=published.get(how, name),
                how=name,
                published=how in published,
                default=how == chosen,
            )
            yield (
                method,
                {
                    cut: laboratory.score(configurations, layer_builder)
                    for cut, configurations in cuts.items()
                },
            )


def _compensations(
    importance: UnitImportanceName, chosen: tuple[UnitImportanceName, CompensationName | None]
) -> list[CompensationName | None]:
    """List what is tried with an importance; in a quick run less with most of them."""
    every: list[CompensationName | None] = [None, *get_args(CompensationName)]
    if not is_quick() or importance == chosen[0]:
        return every
    return [None, "bias", "obs"] if importance == "flap" else [None, "obs"]


def _sparse(laboratory: Laboratory) -> Iterator[tuple[Method, Scored]]:
    default = SearchSettings(model="", space=Choices(fractions=True))
    chosen = (default.sparsifier, default.compensate.refinement)
    published = {(maker, refinement): name for name, maker, refinement in PUBLISHED_SPARSE}
    methods: tuple[SparsifierName, ...] = get_args(SparsifierName)
    pairs: list[tuple[SparsifierName, RefinementName | None]] = [(m, None) for m in methods]
    pairs += [("wanda", "dsnot"), ("wanda", "admm"), ("sparsegpt", "admm")]
    for maker, refinement in pairs:
        layer_builder = laboratory.layer_builder(
            sparsifier=maker, refinement=refinement, patterns=(DENSE, *PATTERNS)
        )
        how, name = (maker, refinement), f"{maker} + {refinement or 'none'}"
        method = Method(
            name=published.get(how, name),
            how=name,
            published=how in published,
            default=how == chosen,
        )
        yield method, _by_pattern(laboratory, layer_builder)


def _by_pattern(laboratory: Laboratory, layer_builder: LayerBuilder) -> Scored:
    configurations = {
        str(pattern): laboratory.uniform(pattern=index)
        for index, pattern in enumerate(PATTERNS, start=1)
    }
    return {name: laboratory.score(own, layer_builder) for name, own in configurations.items()}


def _references(laboratory: Laboratory) -> Iterator[tuple[str, float]]:
    """Yield how far our perplexity is from that of the literal algorithms on the same matrices."""
    positions = np.arange(len(laboratory.widths))
    chosen = positions // 2 % 10 == 0 if is_quick() else positions >= 0
    configurations = np.where(chosen, laboratory.uniform(pattern=1), laboratory.widths)
    methods: tuple[SparsifierName, ...] = ("wanda", "sparsegpt")
    for name in methods:
        for pattern in PATTERNS[:1] if is_quick() else PATTERNS:
            made: Matrices = {
                key: _literal(name, weight, laboratory.matrix_statistics(*key), pattern)
                for key, weight in laboratory.matrices().items()
                if chosen[key[0]]
            }
            source = weights_of(made, laboratory.stored_dtype)
            block_options = [combined_options((DENSE, pattern))] * len(configurations)
            literal = LayerBuilder(laboratory.sorted_model, block_options, source)
            fast = laboratory.layer_builder(sparsifier=name, patterns=(DENSE, pattern))
            reference, ours = (
                laboratory.score(configurations, layer_builder)
                for layer_builder in (literal, fast)
            )
            gap = abs(math.expm1(ours.nll.value - reference.nll.value))
            yield f"{name}, {pattern} of {int(chosen.sum())} components", gap


def _literal(
    name: str, weight: Tensor, statistics: MatrixStatistics, pattern: SparsityPattern
) -> Tensor:
    if name == "wanda":
        return wanda_reference(weight, statistics["input_second_moment"], pattern)
    return sparsegpt_reference(weight, statistics["gram"], pattern)


def _default(scored: dict[Method, Scored]) -> Scored:
    return next(found for method, found in scored.items() if method.default)


def _behind(scored: dict[Method, Scored]) -> list[str]:
    """List where a published method is significantly ahead of the default."""
    default = _default(scored)
    return [
        f"{method.name} at {cut}"
        for method, found in scored.items()
        if method.published and not method.default
        for cut in found
        if compare_kl(found[cut].kl, default[cut].kl)[1] == "better"
    ]


def _row(kind: str, method: Method, scored: Scored) -> Row:
    mark = ", default" if method.default else ""
    row = {
        kind: f"{method.name if method.published else '–'}{mark}",
        "ranking + compensation" if kind == "width" else "sparsifier + refinement": method.how,
    }
    return row | {cut: _cell(found) for cut, found in scored.items()}


def _cell(quality: Quality) -> str:
    return f"{quality.kl.value:.3f} ± {quality.kl.standard_error:.3f} ({quality.perplexity})"


if __name__ == "__main__":
    sys.exit(main())
