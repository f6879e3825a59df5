"""``planner show``: one plan of a run, with its costs, its scores and its layers."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option

if TYPE_CHECKING:
    from planner.results.run_plan import RunPlan
    from planner.run import Run


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
    from planner.cli.printing import print_frame, print_json, show, wants_data
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
        show(plan_text(plan, _marks(opened_run, plan)))


def plan_data(plan: "RunPlan") -> dict[str, object]:
    """Return a plan as data: all that the run knows of it."""
    from planner.cli.printing import records

    found = plan.evaluation
    return {
        "plan_id": plan.plan_id,
        "round": found.round,
        "windows": found.score.windows,
        "failure": found.score.failure or "",
        "costs": records(plan.costs()),
        "scores": records(plan.scores()),
        "layers": records(plan.layers()),
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


def _marks(run: "Run", plan: "RunPlan") -> list[str]:
    """Return what a plan is in its run."""
    knee = run.knee()
    on_front = any(each.plan_id == plan.plan_id for each in run.front_plans())
    names = [f"the {name} baseline" for name, e in run.baselines().items() if e == plan.evaluation]
    at_knee = knee is not None and knee.plan_id == plan.plan_id
    return [*["on the front"] * on_front, *["its knee"] * at_knee, *names]
