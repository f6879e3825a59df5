"""``planner evaluate``: perplexity and tasks of a model, beside the dense one, with verdicts."""

from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings, given_settings


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.evaluate import EvaluateSettings

    parser.add_config()
    add_settings(parser, EvaluateSettings)
    help_text = "JSON file to write all figures to, with versions and the machine."
    add_option(parser, "out", Path, help_text, group="output")
    help_text = "File to write the answers to tasks to, sample by sample, one JSON object a line."
    add_option(parser, "log_samples", Path, help_text, group="output")


def run(options: Namespace) -> None:
    """Evaluate a model, and print what was found."""
    from planner.settings.evaluate import EvaluateSettings

    settings = EvaluateSettings.checked(**given_settings(options, EvaluateSettings))

    from planner.cli.terminal import Terminal
    from planner.evaluate.evaluation import evaluate_model
    from planner.reports.evaluation_table import evaluation_text
    from search_spaces.atomic_files import atomic_write_text

    with Terminal() as terminal:
        evaluation = evaluate_model(settings, log_samples=options.log_samples, progress=terminal)
    if options.out is not None:
        atomic_write_text(options.out, evaluation.model_dump_json(indent=1) + "\n")
    print(evaluation_text(evaluation))
