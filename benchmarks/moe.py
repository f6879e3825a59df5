"""How many experts each layer keeps: a search over all layers against the same number in each."""

import os
import sys
import tempfile
import time
from math import exp
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralConfig, PreTrainedModel

from benchmarks.contest import Contest, kl_cells, text_name, text_options
from benchmarks.report import Goal, Row, finish, is_quick
from evaluators.costs.cost_model import CostModel
from evaluators.metric import Measurement
from evaluators.scoring.batches import Fidelity
from evaluators.scoring.evaluator import Evaluator
from evaluators.scoring.prefix_tree import PrefixTree
from planner.cli.commands.demo_command import demo_model
from planner.results.significance import compare_kl
from planner.settings.to_moe import ToMoeSettings
from planner.to_moe.convert import convert_to_moe
from search_spaces.importance import ExpertImportanceName
from search_spaces.models.stored import StoredFormat
from search_spaces.reading.read import read_structure
from search_spaces.space.configuration import Configurations, unit_counts
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sorted_as_is

REMOVED = (0.25, 0.5)
"""Experts removed, of all."""
EXPERTS, SHARED, ACTIVE = 16, 512, 6
"""Of the split model: experts of 64 channels, channels of the shared one, experts that run."""
OTHER = "MOE"
"""Environment variable that names another model to measure besides that one (with ``QUICK=1`` in
its place): a folder with experts, and after a colon its text."""
NOTES = f"""
SmolLM2-135M-Instruct split into experts by `planner to-moe`, in float32: {EXPERTS} experts of 64
channels a layer, of which {ACTIVE} run for a token next to a shared one of {SHARED} channels. KL
is to that mixture with all of its experts. *uniform*: as many experts in each layer, by the sum of
their routing weights (the default), by *frequency*, or, in the full run, *merged*: by frequency,
the removed merged into the kept (M-SMoE). *searched*: `--searcher frontier --focus budget
--space experts` with at most as many parameters as uniform, in the default order.

Each cell: KL on hold-out text, nats a token, with its error. *gain*: how much lower the search's
is, by paired differences on the windows, and in brackets whether Student's t test (97.5 %) takes
it for lower. The figure counts comparisons, with uniform by default and by frequency, in which it
does. The split model's router weighs experts nearly alike by a softmax over all of them, so that
the kept weigh more once others are removed: that is the class's own behaviour, for all alike.
"""


def main() -> int:
    """Measure, report, and return the exit status."""
    rows: list[Row] = []
    ratios: dict[float, float] = {}
    won, counts = 0, 0
    other = os.environ.get(OTHER, "")
    if not (other and is_quick()):  # experts of few channels take long to score
        with tempfile.TemporaryDirectory() as scratch:
            model = _split(Path(scratch))
            rows, ratios = _perplexities(model)
            compared, won, tokens = _compared("SmolLM2-135M, split", str(model))
            rows, counts = rows + compared, 4
    if other:
        folder, _, text = other.partition(":")
        more, beaten, tokens = _compared(Path(folder).name, folder, data=text, holdout=None)
        rows, won, counts = rows + more, won + beaten, counts + 4
    rows += _counted_rows()
    goals = [Goal(figure=f"won of {counts}", value=float(won), limit=counts, at_least=True)]
    goals += [
        Goal(
            figure=f"perplexity at {share:.0%} active, of the dense model's",
            value=ratio,
            limit=PROTOTYPE[share],
            at_least=False,
        )
        for share, ratio in ratios.items()
    ]
    text = f"Text: {text_name()}, of another model its own; {tokens:,} candidate tokens a search."
    notes = "\n\n".join(part.strip() for part in (_SPLIT, NOTES, text, _COUNTED))
    return finish("moe", rows, goals, notes, seed=0)


def _split(folder: Path) -> Path:
    """Split the demo's model on the calibration text."""
    options = text_options(folder)
    settings = ToMoeSettings.checked(
        model=str(demo_model()),
        data=options["data"],
        experts=EXPERTS,
        shared=SHARED,
        active=ACTIVE,
        calibration_windows=16 if is_quick() else 32,
    )
    return convert_to_moe(settings, folder / "mixture")


PROTOTYPE = {0.875: 24.3 / 21.2, 0.75: 31.4 / 21.2}
"""Perplexities of a prototype of such a split, of the dense model's, by the share of channels that
run for a token."""
_SPLIT = """
The first table: perplexity of the split model on hold-out text, by the share of MLP channels that
run for a token, next to the dense model's. The goal is what a prototype reached (16 groups of 96
channels, 4 of which always run, balanced k-means on activations, ridge-regression router): 24.3 at
88 % and 31.4 at 75 %, where the dense model had 21.2 on other windows of WikiText-2.
"""


def _perplexities(model: Path) -> tuple[list[Row], dict[float, float]]:
    """Return perplexities of the split model as more or fewer experts run, and ratios to dense."""
    with tempfile.TemporaryDirectory() as scratch:
        options = text_options(Path(scratch))
        text = Path(options.get("holdout", options["data"])).read_text(encoding="utf-8")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        model, experts_implementation="eager", dtype=torch.float32
    )
    windows = 4 if is_quick() else 32
    ids = AutoTokenizer.from_pretrained(model)(text[: windows * 8192], return_tensors="pt")
    tokens = ids.input_ids[0, -windows * 512 :].reshape(windows, 512)
    width = SHARED + EXPERTS * (1536 - SHARED) // EXPERTS
    rows: list[Row] = []
    found = {}
    for share in (1.0, *PROTOTYPE):
        active = round((share * width - SHARED) / (width - SHARED) * EXPERTS)
        for module in loaded.modules():
            if hasattr(module, "top_k"):
                module.top_k = active
        found[share] = _perplexity(loaded, tokens)
        rows.append(
            {
                "channels that run": f"{share:.1%}",
                "experts that run": f"{active} of {EXPERTS}",
                "perplexity": found[share],
                "of the dense model's": found[share] / found[1.0],
                "prototype's": PROTOTYPE.get(share, 1.0),
            }
        )
    return rows, {share: found[share] / found[1.0] for share in PROTOTYPE}


@torch.inference_mode()
def _perplexity(model: PreTrainedModel, tokens: Tensor) -> float:
    """Return the perplexity on windows ``(windows, tokens)``."""
    total = 0.0
    for window in tokens:
        logits = model(window[None]).logits[0, :-1]
        total += float(cross_entropy(logits.float(), window[1:]))
    return exp(total / len(tokens))


def _compared(name: str, model: str, **options: str | None) -> tuple[list[Row], int, int]:
    """Compare allocations on one model: rows, comparisons won, and tokens of a search."""
    rows: list[Row] = []
    won = 0
    ours = _contest(model, "router_weight", **options)
    others = {"frequency": _contest(model, "frequency", **options)}
    if not is_quick():
        others["merged"] = _contest(model, "frequency", compensate="merge", **options)
    tokens = 12_000 if is_quick() else 400_000
    for share in REMOVED:
        uniform = _uniform(ours, share)
        most = ours.prepared.costs_of(uniform)["params"]
        budget = f"params<={most:.0f}"
        run = ours.run(
            f"searched-{share}", budget=budget, focus="budget", searcher="frontier", tokens=tokens
        ).run
        kls = {
            "searched": _scored(
                ours, ours.prepared.space.configurations(np.array([run.best(budget).genome]))
            ),
            "uniform": _scored(ours, ours.prepared.space.configurations(uniform[None])),
        }
        for name_of_other, contest in others.items():
            genome = _uniform(contest, share)
            kls[name_of_other] = _scored(
                contest, contest.prepared.space.configurations(genome[None])
            )
        gains = {other: compare_kl(kls["searched"], kls[other]) for other in [*kls][1:]}
        won += sum(gains[other][1] == "better" for other in ("uniform", "frequency"))
        cells = kl_cells(kls, gains)
        rows.append({"model": name, "experts removed": f"{share:.0%}", **cells})
    return rows, won, tokens


def _contest(model: str, importance: ExpertImportanceName, **options: str | None) -> Contest:
    return Contest(
        0,
        model=model,
        space="experts",
        expert_importance=importance,
        search_windows=8 if is_quick() else 64,
        window_tokens=128,
        rungs=3 if is_quick() else 5,
        holdout_windows=16 if is_quick() else 64,
        calibration_windows=24 if is_quick() else 64,
        fresh_windows=2,
        budget="params<=0.9x",
        **{"compensate": "none", **options},
    )


def _uniform(contest: Contest, share: float) -> np.ndarray[tuple[int], np.dtype[np.int_]]:
    """Return the genome ``(sites,)`` that keeps the same number of experts in each layer."""
    space = contest.prepared.space
    genome = space.top_levels.copy()
    for position, site in enumerate(space.sites):
        whole = space.components[site.targets[0]].unit_count
        genome[position] = site.levels.index((round(whole * (1 - share)),))
    return genome


def _scored(contest: Contest, configurations: Configurations) -> Measurement:
    prepared = contest.prepared
    windows, fidelity = prepared.calibration.holdout, Fidelity(metrics=("kl",), state_bytes=0)
    evaluator = Evaluator(
        prepared.sorted_model, windows, fidelity, layer_builder=prepared.layer_builder
    )
    ((_, score),) = evaluator.score(configurations)
    return score.quality["kl"]


_COUNTED = """
The second table: one candidate of a random model of 64 experts a layer (8 run for a token), scored
as a search does, by the experts that each layer keeps; no other is there to be read (a test fills
them with NaN).
*counted* and *measured*: multiply–accumulates of a token in matrix products, by the cost model and
by counting operations of the candidate while it runs; *time*: median of five.
"""
_LAYERS, _HIDDEN, _WINDOW = 4, 256, 256


def _counted_rows() -> list[Row]:
    """Time and count one candidate of a model of 64 experts at several counts."""
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=512,
        hidden_size=_HIDDEN,
        intermediate_size=512,
        num_hidden_layers=_LAYERS,
        num_attention_heads=8,
        num_key_value_heads=8,
        num_local_experts=64,
        num_experts_per_tok=8,
    )
    make: Any = AutoModelForCausalLM.from_config
    model = make(config, attn_implementation="sdpa", experts_implementation="eager")
    structure = read_structure(model.eval().requires_grad_(requires_grad=False))
    return [_counted(structure, count) for count in (64, 32, 16, 8)]


def _counted(structure: ModelStructure, count: int) -> Row:
    """Count and time one candidate that keeps so many experts in each layer."""
    components, backbone = structure.components, structure.backbone
    configurations = unit_counts(components).copy()
    configurations[[component.unit_choice == "experts" for component in components]] = count
    costs = CostModel(structure, stored=StoredFormat(dtype=torch.float32), context=_WINDOW)
    windows = torch.randint(512, (4, _WINDOW), generator=torch.Generator().manual_seed(1))
    evaluator = Evaluator(sorted_as_is(structure), windows, Fidelity(state_bytes=0))
    dict(evaluator.score(unit_counts(components)[None]))  # the dense side is kept
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        dict(evaluator.score(configurations[None]))
        seconds.append(time.perf_counter() - started)
    with torch.inference_mode():
        inputs = backbone.enter(windows)
        with FlopCounterMode(display=False) as counter:
            ((_, final),) = PrefixTree(sorted_as_is(structure)).walk(configurations[None], inputs)
            backbone.logits(final)
    found = costs.costs(configurations[None])
    return {
        "experts kept": f"{count} of 64",
        "expert weights there": f"{count / 64:.0%}",
        "counted, M a token": float(found["macs"][0]) / 1e6,
        "measured, M a token": counter.get_total_flops() / 2 / windows.numel() / 1e6,
        "loaded, MB a token": float(found["loading"][0]) / 1e6,
        "time, ms a token": 1e3 * median(seconds) / windows.numel(),
    }


if __name__ == "__main__":
    sys.exit(main())
