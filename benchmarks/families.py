"""Exports of every family and wiring: largest difference from what was scored, cache or not."""

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from benchmarks.in_process import compare, scored_logits
from benchmarks.report import Goal, Row, finish, is_quick
from planner.targets.hf.loaded_folder import load_export
from planner.targets.hf.model_folder import cut_model, write_model
from search_spaces.errors import InputError, PlannerError
from search_spaces.models.loading import LoadedModel, load_model
from search_spaces.reading.read import check_exportable, read_structure
from search_spaces.structure.model import ModelStructure
from tests.models.factory import save_model, twin
from tests.models.wirings import SEED, Wiring, make, random_plan, wirings

KINDS = {
    "heads": "heads",
    "channels": "channels",
    "drops": "drops",
    "layers": "layers",
    "experts": "experts,top_k",
    "all": "heads,channels,drops,experts,top_k",
}
"""The words of ``--space`` behind each kind of plan."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROUNDING = 1e-4
"""Of the logits' spread: the same float32 sums in another order."""
TOKENS = 96
PROCESSES = 2
NOTES = f"""
A tiny random model of every type of causal language model in transformers, and of wirings that a
config chooses, is stored in three number formats, read as a search does, cut by a random plan of
each kind, exported, and loaded as a client does. Each cell is the largest difference of logits at
{TOKENS} tokens, in float32 and relative to the logits' standard deviation: between the export and
the candidate as it is scored, or between the export with a cache and without, whichever is larger.
*exact* is at most {ROUNDING:g}, which is rounding. *–*: the model has nothing of the kind.
"""


@dataclass(frozen=True, kw_only=True)
class AllOf(Goal):
    """A count that must be complete."""

    def __str__(self) -> str:
        return f"{self.value:.0f} of {self.limit:.0f} {self.figure} (goal all)"


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What became of one model stored in one number format."""

    name: str
    dtype: str
    refusal: str = ""
    """Why it is not read; empty: it is."""
    gaps: tuple[float | None, ...] = ()
    """Of each kind of plan; None: there is nothing of the kind."""
    complaint: str = ""
    """What an export failed with, beside its gap."""


def main() -> int:
    """Measure, report, and return the exit status."""
    dtypes = ("bfloat16",) if is_quick() else tuple(DTYPES)
    names = sys.argv[1:]
    chosen = [wiring for wiring in wirings() if not names or wiring.name in names]
    context = multiprocessing.get_context("spawn")
    # which ends with an error if the system kills a process, where `Pool` waits for ever
    with ProcessPoolExecutor(PROCESSES, context, _quieten) as pool:
        attempts = list(pool.map(attempt, chosen, repeat(dtypes)))
    tried = [model for of_wiring in attempts for model in of_wiring]
    read = [model for model in tried if not model.refusal]
    gaps = [gap for model in read for gap in model.gaps if gap is not None]
    goal = AllOf(
        figure="exact",
        value=sum(gap <= ROUNDING for gap in gaps),
        limit=len(gaps),
        at_least=True,
    )
    rows: list[Row] = [
        {"family": model.name, "checkpoint": model.dtype}
        | {
            kind: "–" if gap is None else f"{gap:.1g}"
            for kind, gap in zip(KINDS, model.gaps, strict=True)
        }
        for model in read
    ]
    for model in read:
        if model.complaint:
            print(f"{model.name} from {model.dtype}: {model.complaint}")
    refused = {model.name: model.refusal for model in tried if model.refusal}
    if names:
        print(rows, refused, goal, sep="\n")
        return 0
    text = "\n".join(f"- `{name}`: {refusal}" for name, refusal in refused.items())
    notes = f"{NOTES.strip()}\n\n{len(refused)} types are not read, and refused before a search:\n"
    return finish("families", rows, [goal], f"{notes}\n{text}", seed=SEED)


def _quieten() -> None:
    quieten: Any = logging
    quieten.set_verbosity_error()
    quieten.disable_progress_bar()
    torch.set_num_threads(1)


def attempt(wiring: Wiring, dtypes: Sequence[str]) -> list[Tried]:
    """Export a model from each number format; of one that is not read, say why once."""
    began = time.monotonic()
    tried = []
    for dtype in dtypes:
        tried.append(_attempt(wiring, dtype))
        if tried[-1].refusal:
            break
    seconds = time.monotonic() - began
    print(f"{wiring.name} {seconds:.0f} s {tried}", file=sys.stderr, flush=True)
    return tried


def _attempt(wiring: Wiring, dtype: str) -> Tried:
    """Export a model by a plan of each kind, and compare."""
    try:
        model: Any = make(wiring)
    except Exception as error:  # noqa: BLE001  (a class that wants a config of its own)
        refusal = f"not made: {type(error).__name__}: {_line(error)}"
        return Tried(name=wiring.name, dtype=dtype, refusal=refusal)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "dense"
        save_model(model.to(DTYPES[dtype]), folder)
        try:
            loaded = load_model(str(folder), dtype=torch.float32)
            check_exportable(loaded.model)
            structure = read_structure(loaded.model)
        except InputError as error:
            return Tried(name=wiring.name, dtype=dtype, refusal=_line(error))
        gaps, complaints = [], []
        for kind in KINDS:
            gap, complaint = _exported(loaded, structure, kind, Path(scratch) / kind)
            gaps.append(gap)
            complaints += [f"{kind}: {complaint}"] if complaint else []
    return Tried(name=wiring.name, dtype=dtype, gaps=tuple(gaps), complaint="; ".join(complaints))


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _exported(
    loaded: LoadedModel, structure: ModelStructure, kind: str, folder: Path
) -> tuple[float | None, str]:
    plan = random_plan(structure, loaded.identity, KINDS[kind])
    if plan is None:
        return None, ""
    tokens = torch.randint(3, 500, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    try:
        folder.mkdir()
        write_model(folder, cut_model(structure, plan), loaded)
        exported = load_export(folder)
        proof = compare(exported, scored_logits(twin(structure), plan, tokens), tokens)
    except (PlannerError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        return float("inf"), f"{type(error).__name__}: {_line(error)}"
    gap = max(proof.logit_gap, proof.cache_gap) / (proof.allowed / 1e-3)
    complaint = "" if gap <= ROUNDING else f"{proof.logit_gap:.2g}, cache {proof.cache_gap:.2g}"
    return gap, complaint


if __name__ == "__main__":
    sys.exit(main())
