"""The command line: ``planner inspect | search | compare | front | export | to-moe | demo``.

Each command's parser is built only when the command is asked for, and heavy modules are imported
only when it runs, so that ``planner --help`` answers at once.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

_PURPOSE = "Find the best ways to make a transformer smaller, and export the one that fits."
COMMANDS = {
    "inspect": "show what is in a model, what can be cut and what it costs",
    "search": "search a model and leave a run with its Pareto front",
    "compare": "search by several recipes under one budget, and say which is best",
    "front": "show the front of a run, and the best plan within a budget",
    "export": "write a plan as a HuggingFace folder and prove it",
    "to-moe": "make a dense model a mixture of experts, without training",
    "demo": "search, compare and export SmolLM2-135M in a few minutes",
}


_RESUMABLE = ("search", "compare")


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Of the command line; none: the process's own.

    Returns:
        Exit status: 0, 1 for a defect of ours, 2 for a mistake of the user's.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = _parser(next((word for word in arguments if word in COMMANDS), None))
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    from search_spaces.errors import InputError, PlannerError

    _quieten()
    try:
        _RUN[options.command](options[options.command])
    except PlannerError as error:
        print(f"planner: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        remedy = "; go on with --resume" if options.command in _RESUMABLE else ""
        print(f"planner: stopped{remedy}", file=sys.stderr)
        return 130
    return 0


def _parser(command: str | None) -> ArgumentParser:
    parser = ArgumentParser(
        prog="planner",
        description="Find the best ways to make a transformer smaller, and export one.",
    )
    chosen = parser.add_subcommands(required=False, dest="command")
    for name, help_text in COMMANDS.items():
        own = ArgumentParser(description=help_text)
        if name == command:
            _ARGUMENTS[name](own)
        chosen.add_subcommand(name, own, help=help_text)
    return parser


def _quieten() -> None:
    """Leave the terminal to us: transformers and its friends log and draw bars of their own."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from planner.cli.terminal import show_notices

    show_notices()


def _add_settings(
    parser: ArgumentParser, *, only: tuple[str, ...] = (), but: tuple[str, ...] = ()
) -> None:
    """Offer the fields of `SearchSettings`."""
    from planner.settings.search import SearchSettings

    _add_fields(parser, SearchSettings, only=only, but=but)


def _add_fields(
    parser: ArgumentParser, settings: Any, *, only: tuple[str, ...] = (), but: tuple[str, ...] = ()
) -> None:
    """Offer the fields of some settings, which check the values themselves, in their own words."""
    parser.add_argument("model", type=str, help="folder, .gguf file or hub name of the model")
    for name, field in settings.model_fields.items():
        if name in ("model", *but) or (only and name not in only):
            continue
        if field.annotation is bool:
            parser.add_argument(f"--{name}", action="store_true", help=field.description)
        else:
            help_text = f"{field.description} (default: {field.default})"
            # YAML would read 2:4 as a number
            kind = str if field.annotation is str else Any
            parser.add_argument(f"--{name}", type=kind, default=field.default, help=help_text)


_READING = (
    "space",
    "mlp_step",
    "window_tokens",
    "dtype",
    "device",
    "offload",
    "trust_remote_code",
)


def _inspect_arguments(parser: ArgumentParser) -> None:
    _add_settings(parser, only=_READING)


def _inspect(options: Namespace) -> None:
    from planner.cli.terminal import Terminal
    from planner.reports.inspect import inspect_model

    with Terminal() as terminal:
        text = inspect_model(_settings(options), terminal)
    print(text)


def _search_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    _add_settings(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")


def _search(options: Namespace) -> None:
    from planner.cli.terminal import Terminal
    from planner.reports.plots import draw_front
    from planner.run import Run
    from planner.runs.folder import FRONT_PICTURE
    from planner.searching.search_model import run_search

    settings = _settings(options, without=("out", "resume", "config"))
    with Terminal() as terminal:
        run_search(settings, options.out, resume=options.resume, progress=terminal)
    run = Run.open(options.out)
    draw_front(run, run.folder / FRONT_PICTURE)
    _show_front(run, settings.budget)
    print(f"\nrun: {run.folder} (front.csv, {FRONT_PICTURE})")


def _compare_arguments(parser: ArgumentParser) -> None:
    from planner.recipes.recipe import DEFAULT_RECIPES, RECIPES

    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    listed = "; ".join(f"{name}: {recipe.description}" for name, recipe in RECIPES.items())
    parser.add_argument(
        "--recipes",
        type=str,
        default=",".join(DEFAULT_RECIPES),
        help=f"who searches, comma separated – {listed} (default: {','.join(DEFAULT_RECIPES)})",
    )
    _add_settings(parser, but=("searcher",))
    parser.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    parser.add_argument("--resume", action="store_true", help="go on with the one in --out")


def _compare(options: Namespace) -> None:
    from planner.cli.terminal import Terminal
    from planner.recipes.compare import run_comparison
    from planner.recipes.recipe import chosen_recipes
    from planner.reports.recipes import comparison_sentences, comparison_table, draw_comparison
    from planner.runs.folder import COMPARISON_PICTURE

    settings = _settings(options, without=("recipes", "out", "resume", "config"))
    recipes = chosen_recipes(options.recipes)
    with Terminal() as terminal:
        found = run_comparison(
            settings, recipes, options.out, resume=options.resume, progress=terminal
        )
    draw_comparison(found, found.folder / COMPARISON_PICTURE)
    print(f"{comparison_table(found)}\n\n{comparison_sentences(found)}")
    print(
        f"\ncomparison: {found.folder} (compare.csv, {COMPARISON_PICTURE}, a run for each recipe)"
    )


def _front_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--budget", type=str, help="for example params<=0.7x,kl<=0.1")
    parser.add_argument("--knee", action="store_true", help="take the plan at the front's knee")
    parser.add_argument(
        "--budgets", type=str, help="answer many at once, for example 0.5x,0.6x or size<=180MB"
    )
    parser.add_argument(
        "--against", type=Path, help="folder of another run to compare the front with"
    )
    parser.add_argument(
        "--reference", type=float, help="KL that the hypervolume is measured against"
    )
    parser.add_argument(
        "--stability", action="store_true", help="rank the front again on a fresh draw of the text"
    )


def _front(options: Namespace) -> None:
    from planner.reports.sentences import front_sentence, rivalry_sentences, stability_sentences
    from planner.reports.tables import answers_table, stability_table
    from planner.results.budgets import listed_budgets
    from planner.run import Run

    run = Run.open(options.run)
    _check_choice(options)
    if options.budgets is not None:
        print(answers_table(run.answers(listed_budgets(options.budgets))))
        return
    sentence = front_sentence(run, reference=options.reference)
    rivals = rivalry_sentences(run, Run.open(options.against)) if options.against else None
    found = run.stability() if options.stability else None
    _show_front(run, options.budget, at_knee=options.knee)
    print(f"\n{sentence}")
    if rivals:
        print(f"\n{rivals}")
    if found:
        print(f"\n{stability_table(found)}\n\n{stability_sentences(found)}")


def _check_choice(options: Namespace) -> None:
    from search_spaces.errors import SettingsError

    if options.knee and options.budget:
        raise SettingsError(
            f"`--knee` chooses without a budget, got `--budget {options.budget}` too; "
            "leave one of them out"
        )
    if options.budgets is None:
        return
    for name in ("budget", "knee", "against", "reference", "stability"):
        if options[name] is not None and options[name] is not False:  # a 0 was given too
            raise SettingsError(
                f"`--budgets` prints its answers and nothing else, got `--{name}` too; "
                "leave one of them out"
            )


def _show_front(run: Any, budget: str | None, *, at_knee: bool = False) -> None:
    from planner.reports.sentences import compared_with_baselines
    from planner.reports.tables import front_table
    from planner.settings.budget import Budget
    from search_spaces.errors import BudgetError

    refused = None
    knee = run.knee()
    chosen = knee if at_knee else None
    if budget:
        Budget.parse(budget)  # a mistake in it comes before the table, not after
        try:
            chosen = run.best(budget)
        except BudgetError as error:
            refused = error
    marked, bend = (plan.plan_id if plan else None for plan in (chosen, knee))
    print(front_table(run.front(), marked=marked, knee=bend))
    if refused:
        raise refused
    within = run.get_meta("baselines_within")
    if budget and chosen:
        print(f"\nwithin {budget}: plan {chosen.plan_id}")
        # the run's baselines meet the run's own budget; beside another they say nothing
        if budget == run.settings.budget and not within:
            print("\n".join(compared_with_baselines(run, chosen)))
    if within and budget in (None, run.settings.budget):
        compared = run.best(within)
        print(f"\nno cost was limited; compared at the bend of the front, {within}: ", end="")
        print("\n".join([f"plan {compared.plan_id}", *compared_with_baselines(run, compared)]))


def _export_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=str, help="folder of the run, or a model with --plan FILE")
    parser.add_argument("--plan", type=str, help="id of a plan of the run, or a plan.json")
    parser.add_argument("--budget", type=str, help="take the best plan of the run within it")
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--trust_remote_code", action="store_true", help="of a model's folder")


def _export(options: Namespace) -> None:
    from planner.cli.terminal import Terminal
    from planner.export.choose import export_chosen

    with Terminal() as terminal:
        folder = export_chosen(
            options.source,
            plan=options.plan,
            budget=options.budget,
            out=options.out,
            trust_remote_code=options.trust_remote_code,
            progress=terminal,
        )
    card = (folder / "README.md").read_text(encoding="utf-8")
    print(card[card.index("# ") : card.index("```")].strip())
    print(f"\nexported: {folder}")


def _to_moe_arguments(parser: ArgumentParser) -> None:
    from planner.settings.to_moe import ToMoeSettings

    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    _add_fields(parser, ToMoeSettings)
    parser.add_argument("--out", type=Path, required=True, help="folder to make")


def _to_moe(options: Namespace) -> None:
    from planner.cli.terminal import Terminal
    from planner.settings.to_moe import ToMoeSettings
    from planner.to_moe.convert import convert_to_moe

    given = {name: value for name, value in vars(options).items() if name not in {"out", "config"}}
    settings = ToMoeSettings.checked(**given)
    with Terminal() as terminal:
        folder = convert_to_moe(settings, options.out, progress=terminal)
    card = (folder / "README.md").read_text(encoding="utf-8")
    print(card[card.index("# ") : card.index("```")].strip())
    print(f"\nmixture of experts: {folder}")


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("results/demo"), help="folder to fill")
    parser.add_argument("--evidence", type=Path, help="copy the figures into this folder too")


def _demo(options: Namespace) -> None:
    from planner.cli.demo import run_demo
    from planner.cli.terminal import Terminal

    with Terminal() as terminal:
        text = run_demo(options.out, options.evidence, terminal)
    print(text)


def _settings(options: Namespace, *, without: tuple[str, ...] = ()) -> Any:
    from planner.settings.search import SearchSettings

    given = {name: value for name, value in vars(options).items() if name not in without}
    return SearchSettings.checked(**given)


_ARGUMENTS: dict[str, Callable[[ArgumentParser], None]] = {
    "inspect": _inspect_arguments,
    "search": _search_arguments,
    "compare": _compare_arguments,
    "front": _front_arguments,
    "export": _export_arguments,
    "to-moe": _to_moe_arguments,
    "demo": _demo_arguments,
}
_RUN: dict[str, Callable[[Namespace], None]] = {
    "inspect": _inspect,
    "search": _search,
    "compare": _compare,
    "front": _front,
    "export": _export,
    "to-moe": _to_moe,
    "demo": _demo,
}
