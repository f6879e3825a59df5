"""Every kind of structure in every target: exported, proved in the real runtime, or refused."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Goal, Row, finish, is_quick
from benchmarks.smollm2 import SEED
from planner.cli.commands.demo_command import demo_model
from planner.export.cards.manifest import Manifest
from planner.export.exports import Exports, Scores
from planner.export.reference import proof_tokens
from planner.preparation.dense_model import DenseModel, open_model
from planner.settings.search import SearchSettings
from planner.targets.onnx.other_readers import genai_tokens, openvino_logits
from planner.targets.target_names import TargetChoice
from search_spaces.errors import TargetError
from search_spaces.progress import NoProgress
from search_spaces.space.component_plan import ComponentPlan
from search_spaces.space.plan import Plan
from search_spaces.structure.components import Component
from tests.models.factory import save_model
from tests.models.merging_tokenizers import of_bytes
from tests.models.moe_families import MOE_FAMILIES

CHOICES = {
    "hf": TargetChoice(name="hf"),
    "gguf": TargetChoice(name="gguf", options={"file_type": "F32"}),
    "onnx": TargetChoice(name="onnx"),
    "deci": TargetChoice(name="deci"),
}
COLUMNS = ("structure", "hf", "gguf", "onnx", "genai", "openvino", "deci")
OPENVINO_TOLERANCE = 5e-3
"""Of the logits' deviation: OpenVINO fuses float32 sums in another order, and caches so."""

Counts = Callable[[Component], int]
"""Units that a plan keeps of a component."""

NOTES = f"""
Each plan is exported to each target as `planner export` does it – written, loaded in a fresh
process in the target's own runtime, compared with the candidate as the search scores it – or
refused, with the reason that the user is told.

A cell holds the largest difference of logits and how much is allowed; the difference between
logits with and without a cache, and {32} tokens written greedily, must hold too. *hf* says
whether a stock class of transformers loads it or our bundled code does. The ONNX file is also
read by onnxruntime-genai, which must write the same tokens, and by OpenVINO in float32, whose
largest difference from what onnxruntime computes is shown. *deci* is the folder for vLLM's
DeciLM class; where it was proved, the cell says in what.

Dense plans are of SmolLM2-135M-Instruct in float32. No pretrained mixture of experts comes with
this project, so their plans are of a tiny random Mixtral.
"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of structure, as a plan of one model."""

    name: str
    counts: Counts


def main() -> int:
    """Export, report, and return the exit status."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for model, kinds in (
            (str(demo_model()), dense_kinds()),
            (str(save_mixture(place / "mixture")), mixture_kinds()),
        ):
            dense = open_model(_settings(model), NoProgress())
            exports = Exports(dense=dense, settings=_settings(model), progress=NoProgress())
            for kind in list(kinds)[: 2 if is_quick() else None]:
                row = _row(exports, kind, dense, place)
                rows.append(row)
                print(*row.values(), sep=" | ", flush=True)
    wrong = sum(str(cell).startswith("WRONG") for row in rows for cell in row.values())
    proved = sum("≤" in str(cell) for row in rows for cell in row.values())
    goals = [
        Goal(figure="cells that are wrong", value=wrong, limit=0, at_least=False),
        Goal(figure="cells proved", value=proved, limit=4 if is_quick() else 36, at_least=True),
    ]
    return finish("export", rows, goals, NOTES.strip(), seed=SEED)


def dense_kinds() -> Iterator[Kind]:
    """Yield kinds of structure of a model of 30 layers, of 3 groups of heads and an MLP each."""
    yield Kind(name="layers dropped", counts=lambda c: 0 if c.layer in {5, 20} else c.unit_count)
    yield Kind(name="uniform", counts=lambda c: _share(c, 2 / 3))
    yield Kind(name="widths", counts=lambda c: _width(c) if c.kind == "mlp" else c.unit_count)
    yield Kind(
        name="KV groups",
        counts=lambda c: 1 + c.layer % 3 if c.kind == "attention" else c.unit_count,
    )
    yield Kind(name="attention-free", counts=_without("attention", {3, 17}))
    yield Kind(name="attention-free layer 0", counts=_without("attention", {0}))
    yield Kind(name="MLP-free", counts=_without("mlp", {12}))
    yield Kind(name="MLP-free last layer", counts=_without("mlp", {29}))
    yield Kind(name="all of it", counts=_all_of_it)


def mixture_kinds() -> Iterator[Kind]:
    """Yield kinds of structure of a mixture of experts."""
    yield Kind(
        name="experts, equal counts", counts=lambda c: 4 if c.kind == "experts" else c.unit_count
    )
    yield Kind(
        name="experts, other counts by layer",
        counts=lambda c: 3 + c.layer % 3 if c.kind == "experts" else c.unit_count,
    )


def _share(component: Component, share: float) -> int:
    return round(component.unit_count * share)


def _width(component: Component) -> int:
    """Return a width that differs from layer to layer, in steps of 32."""
    return 32 * (10 + (7 * component.layer) % 38)


def _without(kind: str, layers: set[int]) -> Counts:
    return lambda c: 0 if c.kind == kind and c.layer in layers else c.unit_count


def _all_of_it(component: Component) -> int:
    if component.layer == 20 or component.name in {"layers.0.attention", "layers.29.mlp"}:
        return 0
    if component.kind == "attention":
        return 0 if component.layer == 3 else 1 + component.layer % 3
    return 0 if component.layer == 12 else _width(component)


def save_mixture(folder: Path) -> Path:
    """Write a tiny Mixtral, with a tokenizer that llama.cpp knows."""
    save_model(MOE_FAMILIES["mixtral"].structure().backbone.model, folder)
    of_bytes().save_pretrained(folder)
    return folder


def plan_of(dense: DenseModel, counts: Counts) -> Plan:
    """Return the plan that keeps the first units of each component."""
    sites: dict[str, ComponentPlan] = {}
    for component in dense.structure.components:
        kept = component.members(np.arange(component.member_count), counts(component))
        sites[component.name] = ComponentPlan.of(np.sort(kept), component.member_count)
    return Plan(model=dense.loaded.identity, sites=sites)


def _settings(model: str) -> SearchSettings:
    # what is timed here is of no account
    timed = {"prompt_tokens": 8, "new_tokens": 1}
    return SearchSettings.checked(model=model, dtype="float32", device="cpu", **timed)


def _row(exports: Exports, kind: Kind, dense: DenseModel, place: Path) -> Row:
    """Export a plan to each target."""
    plan = plan_of(dense, kind.counts)
    row = {"structure": kind.name}
    for name, choice in CHOICES.items():
        out = place / f"{kind.name}-{name}"
        try:
            exports.export(plan, out, choice, Scores())
        except TargetError as error:
            row[name] = f"refused {_reason(error)}"
            continue
        except Exception as error:  # noqa: BLE001  (a fault is a cell of the table)
            row[name] = f"WRONG: {error}"
            continue
        manifest = Manifest.model_validate_json((out / "manifest.json").read_text("utf-8"))
        row[name] = _cell(manifest)
        if name == "onnx":
            row |= _other_readers(out, manifest, dense)
    return {
        **dict.fromkeys(["structure", "hf", "gguf", "onnx", "genai", "openvino", "deci"], ""),
        **row,
    }


def _reason(error: TargetError) -> str:
    """Return where in the plan it is, and what."""
    place, _, what = str(error).partition(" and at ")[2].partition(" it is not: ")
    return f"at {place}: {what.partition('; ')[0]}"


def _cell(manifest: Manifest) -> str:
    how = ""
    if manifest.format == "hf":
        how = "custom, " if manifest.needs_remote_code else "stock, "
    return f"{how}{manifest.logit_gap:.1e} ≤ {manifest.logit_gap_allowed:.1e}"


def _other_readers(folder: Path, manifest: Manifest, dense: DenseModel) -> Mapping[str, str]:
    """Return what genai and OpenVINO make of an ONNX file."""
    tokens = proof_tokens(dense.loaded.model).numpy()
    prompt = tokens[0, : tokens.shape[1] // 2].tolist()
    written, gap = _in_onnxruntime(folder, tokens, prompt)
    count = len(written)
    same = genai_tokens(folder, prompt, count) == written
    allowed = OPENVINO_TOLERANCE / 1e-3 * manifest.logit_gap_allowed
    found = float(np.abs(openvino_logits(folder, tokens) - gap).max())
    return {
        "genai": f"{count} tokens ≤ {count} alike" if same else "WRONG: other tokens",
        "openvino": f"{'' if found <= allowed else 'WRONG: '}{found:.1e} ≤ {allowed:.1e}",
    }


def _in_onnxruntime(
    folder: Path, tokens: NDArray[np.int_], prompt: list[int]
) -> tuple[list[int], NDArray[np.float32]]:
    with CHOICES["onnx"].make().serve(folder, threads=2) as served:
        return served.greedy(prompt, 32), served.logits(tokens)


if __name__ == "__main__":
    sys.exit(main())
