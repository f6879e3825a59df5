"""``planner show``: one plan of a run, with its costs, its scores and its layers."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option

if TYPE_CHECKING:
    from planner.results.run_plan import RunPlan
    from planner.run import Run

logger = logging.getLogger(__name__)


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.cli.printing import add_formats

    parser.declare("run", Path)
    parser.add_argument("run", help="Folder of the run.")
    parser.declare("plan", str)
    help_text = "Id of a plan, as `planner front` lists them; or choose one by an option below."
    parser.add_argument("plan", nargs="?", help=help_text)
    help_text = "Show the best plan within it, for example params<=0.7x,kl<=0.1."
    add_option(parser, "budget", str, help_text, group="choice of the plan")
    help_text = "Show the plan at the knee of the front."
    add_option(parser, "knee", bool, help_text, group="choice of the plan")
    add_formats(
        parser,
        "Print the plan as a JSON object: plan_id, round, windows, costs, scores and layers.",
        "Print its layers as CSV.",
    )


def run(options: Namespace) -> None:
    """Print one plan of a run."""
    from planner.cli.printing import print_frame, print_json, show, terminal_width, wants_data
    from planner.reports.plan_text import plan_text
    from planner.run import Run

    is_data = wants_data(options)
    opened_run = Run.open(options.run, live=False)
    plan = opened_run.plan(_chosen(opened_run, options))
    if options.csv:
        print_frame(plan.layers(), options)
    elif is_data:
        print_json(plan_data(plan))
    else:
        show(plan_text(plan, opened_run.roles(plan.plan_id), width=terminal_width()))


def plan_data(plan: "RunPlan") -> dict[str, object]:
    """Return a plan as data: all that the run knows of it; of layers null, if that is lost."""
    from planner.cli.printing import records
    from search_spaces.errors import RunError

    found = plan.evaluation
    layers: list[dict[str, object]] | None = None
    try:
        layers = records(plan.layers())
    except RunError as error:
        logger.warning("its layers are not known: %s", error)
    return {
        "plan_id": plan.plan_id,
        "round": found.round,
        "windows": found.score.windows,
        "failure": found.score.failure or "",
        "costs": records(plan.costs()),
        "scores": records(plan.scores()),
        "layers": layers,
    }


def _chosen(run: "Run", options: Namespace) -> str:
    """Return the id of the plan that the options choose.

    Raises:
        SettingsError: If they choose none, or in several ways; or the front has no knee.
        BudgetError: If no plan meets the budget.
    """
    from search_spaces.errors import SettingsError

    ways = {"PLAN": options.plan, "--budget": options.budget, "--knee": options.knee}
    given = [f"`{way}`" for way, value in ways.items() if value]
    if len(given) != 1:
        raise SettingsError(
            f"a plan must be chosen in one of the ways `PLAN`, `--budget` and `--knee`, got "
            f"{' and '.join(given) or 'none'}; `planner front {run.folder}` lists the plans"
        )
    if options.plan:
        return str(options.plan)
    plan = run.best(options.budget) if options.budget else run.knee()
    if plan is None:
        raise SettingsError(
            "`--knee` needs a front that bends, got one that is too short or too straight; give "
            f"the id of a plan: `planner front {run.folder}` lists them"
        )
    return plan.plan_id
