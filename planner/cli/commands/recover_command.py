"""``planner recover``: weights of a plan fitted to follow the dense model."""

import shlex
from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.runs.records import LayerRecovery
    from planner.settings.search import SearchSettings

    parser.declare("run", Path)
    parser.add_argument("run", help="Folder of the run.")
    add_option(parser, "plan", str, "Id of a plan of the run.", group="plan")
    help_text = "Take the plan within it that does best after recovery."
    add_option(parser, "budget", str, help_text, group="plan")
    help_text = (
        "Plans within --budget to choose among: all are recovered briefly, the better half for "
        "longer, and so on; 1: the best as it was searched."
    )
    add_option(parser, "plans", int, help_text, group="plan", default=8)
    help_text = (
        "How: refit solves output projections again, block trains whole layers from there on."
    )
    add_option(parser, "recover", LayerRecovery, help_text, group="recovery", default="refit")
    help_text = "Of the run's calibration text to fit to, at most; by default all of it."
    add_option(parser, "tokens", int, help_text, group="recovery")
    add_settings(parser, SearchSettings, only=("trust_remote_code",), without=("model",))


def run(options: Namespace) -> None:
    """Recover a plan, and say what came of it."""
    from planner.cli.terminal import Terminal
    from planner.recovery.recover_run import RecoverRequest, recover_run
    from planner.results.recoveries import run_recovery_sentences
    from planner.run import Run
    from planner.settings.search import SearchSettings

    settings = SearchSettings.checked(
        model=str(options.run), trust_remote_code=options.trust_remote_code
    )
    request = RecoverRequest(
        plan=options.plan,
        budget=options.budget,
        recovery=options.recover,
        plans=options.plans,
        tokens=options.tokens,
        trust_remote_code=settings.trust_remote_code,
    )
    with Terminal() as terminal:
        plan = recover_run(options.run, request, terminal)
    opened_run = Run.open(options.run, live=False)
    print("\n".join(run_recovery_sentences(opened_run, [plan])))
    if variant := plan.variant(options.recover):
        words = ["planner", "export", str(options.run), "--plan", variant.plan_id]
        print(f"\nexport it: {shlex.join(words)} --out FOLDER")
