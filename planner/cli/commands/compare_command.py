"""``planner compare``: searches by several recipes under one budget, and their comparison."""

from argparse import Namespace
from pathlib import Path

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings, given_settings


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.recipes.recipe import DEFAULT_RECIPES, RECIPES
    from planner.settings.search import SearchSettings

    parser.add_config()
    add_settings(parser, SearchSettings, without=("searcher",))
    help_text = "Recipes to compare, comma separated."
    default = ",".join(DEFAULT_RECIPES)
    add_option(parser, "recipes", str, help_text, group="search", default=default)
    add_option(parser, "out", Path, "Folder of the comparison.", group="output", required=True)
    add_option(parser, "resume", bool, "Go on with the comparison in --out.", group="output")
    lines = (f"{name}: {recipe.description}" for name, recipe in RECIPES.items())
    parser.add_argument_group("recipes", description="\n".join(lines))


def run(options: Namespace) -> None:
    """Compare recipes, and print the table."""
    from planner.settings.search import SearchSettings

    settings = SearchSettings.checked(**given_settings(options, SearchSettings))

    from planner.cli.printing import terminal_width
    from planner.cli.terminal import Terminal
    from planner.recipes.compare import run_comparison
    from planner.recipes.recipe import chosen_recipes
    from planner.reports.recipes import comparison_sentences, comparison_table, draw_comparison
    from planner.runs.folder import COMPARISON_PICTURE

    recipes = chosen_recipes(options.recipes)
    with Terminal() as terminal:
        comparison = run_comparison(
            settings, recipes, options.out, resume=options.resume, progress=terminal
        )
    folder = comparison.folder
    draw_comparison(comparison, folder / COMPARISON_PICTURE)
    table = comparison_table(comparison, width=terminal_width())
    print(f"{table}\n\n{comparison_sentences(comparison)}")
    print(f"\ncomparison: {folder} (compare.csv, {COMPARISON_PICTURE}, a run for each recipe)")
