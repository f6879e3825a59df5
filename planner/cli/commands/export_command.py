"""``planner export``: plans as models for the runtime that serves them, proved there."""

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings

if TYPE_CHECKING:
    from planner.export.choose import Request

_SETTINGS = ("verify", "trust_remote_code")


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.runs.records import WeightsChoice
    from planner.settings.search import SearchSettings
    from planner.targets.target_names import TargetName

    parser.declare("source", str)
    parser.add_argument("source", help="Folder of the run; or the dense model, with --plan FILE.")
    help_text = "Id of a plan of the run, or of a variant such as ID+refit; or a plan.json."
    add_option(parser, "plan", str, help_text, group="plan")
    add_option(parser, "budget", str, "Take the best plan of the run within it.", group="plan")
    add_option(parser, "knee", bool, "Take the plan at the knee of the front.", group="plan")
    help_text = "Take the best plan within each of many budgets: a folder each, and an index."
    add_option(parser, "budgets", str, help_text, group="plan")
    help_text = "Take every plan of the front: a folder each, and an index."
    add_option(parser, "front", bool, help_text, group="plan")
    help_text = (
        "Take the plan with its weights recovered: by refit, which solves output projections "
        "again, or block, which trains whole layers; they are made if they are missing. Or best: "
        "what does best on fresh text of each plan and of what it was recovered or healed to."
    )
    add_option(parser, "recover", WeightsChoice, help_text, group="plan")
    help_text = (
        "What to write: hf for transformers and vLLM, gguf for llama.cpp, onnx for onnxruntime, "
        "onnxruntime-genai and OpenVINO, deci for the DeciLM class of vLLM."
    )
    add_option(parser, "format", TargetName, help_text, group="output", default="hf")
    help_text = (
        "Number format of a GGUF file, such as F16, Q8_0 or Q4_K_M; by default that of the model."
    )
    add_option(parser, "gguf_type", str, help_text, group="output")
    add_settings(parser, SearchSettings, only=_SETTINGS, without=("model",))
    add_option(parser, "out", Path, "Folder to write.", group="output", required=True)


def run(options: Namespace) -> None:
    """Export plans, and print their cards or their index."""
    from planner.cli.terminal import Terminal
    from planner.export.choose import export_chosen, exports_many

    request = _request(options)
    if exports_many(request):
        _run_many(options, request)
        return
    with Terminal() as terminal:
        folder = export_chosen(options.source, request, out=options.out, progress=terminal)
    print_card(folder)
    print(f"\nexported: {folder}")


def _request(options: Namespace) -> "Request":
    from planner.export.choose import Request
    from planner.settings.search import SearchSettings

    given = {name: getattr(options, name) for name in _SETTINGS}
    settings = SearchSettings.checked(model=options.source, **given)
    return Request(
        plan=options.plan,
        budget=options.budget,
        knee=options.knee,
        budgets=options.budgets,
        front=options.front,
        recover=options.recover,
        format=options.format,
        gguf_type=options.gguf_type,
        trust_remote_code=settings.trust_remote_code,
        verify=settings.verify,
    )


def _run_many(options: Namespace, request: "Request") -> None:
    """Export many plans, and print their index.

    Raises:
        TargetError: If there is none that the target can hold.
        VerificationError: If some were not proved; the others stand.
    """
    from planner.cli.terminal import Terminal
    from planner.export.choose import export_many
    from planner.reports.export_index import index_table, write_index
    from planner.run import Run
    from search_spaces.errors import TargetError, VerificationError

    with Terminal() as terminal:
        index = export_many(options.source, request, out=options.out, progress=terminal)
    opened_run = Run.open(options.source, live=False)
    write_index(opened_run, index, options.out)
    print(index_table(opened_run, index, options.out))
    print(f"\nexported: {options.out}")
    if not any(plan.state == "exported" for plan in index.plans):
        raise TargetError(index.plans[0].reason)
    failed = [plan.plan_id for plan in index.plans if plan.state == "failed"]
    if failed:
        raise VerificationError(
            f"every export must be proved, and {len(failed)} of {len(index.plans)} failed, "
            f"`{failed[0]}` first; the index says why, and the others stand"
        )


def print_card(folder: Path) -> None:
    """Print the model card of an exported folder, without its head and how it is loaded."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    loading = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["loading"]
    print(card[card.index("\n# ") : card.index(loading)].strip())
