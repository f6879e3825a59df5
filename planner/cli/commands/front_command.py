"""``planner front``: the front of a run, and the best plan within a budget."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option

if TYPE_CHECKING:
    from planner.run import Run
    from planner.settings.budget import Budget


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    parser.declare("run", Path)
    parser.add_argument("run", help="Folder of the run.")
    choice, report = "choice of plans", "report"
    help_text = "Mark the best plan within it, for example params<=0.7x,kl<=0.1."
    add_option(parser, "budget", str, help_text, group=choice)
    add_option(parser, "knee", bool, "Mark the plan at the knee of the front.", group=choice)
    help_text = (
        "Print the best plan within each of many budgets, for example 0.5x,0.6x or size<=180MB."
    )
    add_option(parser, "budgets", str, help_text, group=choice)
    help_text = "Print what the plan of this id keeps of each layer."
    add_option(parser, "plan", str, help_text, group=choice)
    help_text = "Folder of another run, whose front is compared with this one."
    add_option(parser, "against", Path, help_text, group=report)
    help_text = "KL at the reference point of the hypervolume."
    add_option(parser, "reference", float, help_text, group=report)
    help_text = "Rank the front again on the fresh windows, and report what changes."
    add_option(parser, "stability", bool, help_text, group=report)


def run(options: Namespace) -> None:
    """Print the front of a run."""
    from planner.reports.sentences import (
        front_sentence,
        restriction_sentence,
        stability_sentences,
        status_sentence,
    )
    from planner.reports.tables import layers_table, stability_table
    from planner.results.budgets import split_budgets
    from planner.run import Run
    from planner.settings.budget import Budget

    opened_run = Run.open(options.run, live=False)
    _check_choice(options)
    if options.plan is not None:
        print(layers_table(opened_run.plan(options.plan).layers()))
        return
    if options.budgets is not None:
        _print_answers(opened_run, split_budgets(options.budgets))
        return
    # all that may be refused comes before the table
    sentences = [
        front_sentence(opened_run, reference=options.reference),
        restriction_sentence(opened_run),
    ]
    rivalry = options.against and _against(opened_run, Run.open(options.against, live=False))
    stability = opened_run.stability() if options.stability else None
    unfinished = status_sentence(opened_run)
    budget = Budget.parse(options.budget) if options.budget else None
    print_front(opened_run, budget, at_knee=options.knee)
    print("\n" + "\n".join(filter(None, sentences)))
    if rivalry:
        print(f"\n{rivalry}")
    if stability:
        print(f"\n{stability_table(stability)}\n\n{stability_sentences(stability)}")
    if unfinished:
        print(f"\n{unfinished}")


def _against(run: "Run", other: "Run") -> str:
    """Return how the fronts of two runs compare: in whole, and at the same costs."""
    from planner.reports.sentences import equal_cost_sentence, rivalry_sentences
    from planner.reports.tables import equal_cost_table
    from planner.results.equal_cost import at_equal_cost

    rivalry, found = rivalry_sentences(run, other), at_equal_cost(run, other)
    table = [equal_cost_table(found, run.cost_names)] if found else []
    return "\n".join([rivalry, "", equal_cost_sentence(run, other, found), *table])


def print_front(run: "Run", budget: "Budget | None", *, at_knee: bool = False) -> None:
    """Print the table of a front, the plan chosen from it, and how baselines compare.

    Raises:
        BudgetError: If no plan of the run meets the budget.
    """
    from planner.reports.sentences import compared_with_baselines, written_sentence
    from planner.reports.tables import front_table
    from search_spaces.errors import BudgetError

    refusal = None
    knee = run.knee()
    chosen = knee if at_knee else None
    if budget:
        try:
            chosen = run.best(budget)
        except BudgetError as error:
            refusal = error
    chosen_id, knee_id = (plan.plan_id if plan else None for plan in (chosen, knee))
    print(front_table(run.front(), marked=chosen_id, knee=knee_id))
    if refusal:
        raise refusal
    baselines_within = run.metadata.baselines_within
    if budget and chosen:
        print(f"\nwithin {budget}: plan {chosen.plan_id}")
        if written := written_sentence(run, chosen):
            print(written)
        # baselines meet the run's own budget, and compare with no other
        if budget == run.settings.budget and not baselines_within:
            print("\n".join(compared_with_baselines(run, chosen)))
    if baselines_within and budget in (None, run.settings.budget):
        compared = run.best(baselines_within)
        print(
            f"\nno cost was limited; compared at the knee of the front, {baselines_within}: ",
            end="",
        )
        print("\n".join([f"plan {compared.plan_id}", *compared_with_baselines(run, compared)]))


def _print_answers(run: "Run", budgets: list[str]) -> None:
    """Print the best plan within each budget.

    Raises:
        BudgetError: If there is none for any of them.
    """
    from planner.reports.tables import answers_table
    from search_spaces.errors import BudgetError

    answers = run.answers(budgets)
    print(answers_table(answers))
    if (answers["plan_id"] == "").all():
        raise BudgetError(answers["refusal"][0])


def _check_choice(options: Namespace) -> None:
    """Refuse options that exclude each other.

    Raises:
        SettingsError: If there are such options.
    """
    from search_spaces.errors import SettingsError

    if options.knee and options.budget:
        raise SettingsError(
            f"`--knee` chooses without a budget, got `--budget {options.budget}` too; "
            "leave one of them out"
        )
    given = [
        name
        for name in ("plan", "budgets", "budget", "knee", "against", "reference", "stability")
        if getattr(options, name) is not None and getattr(options, name) is not False
    ]  # a 0 was given too
    if given[0:1] in (["plan"], ["budgets"]) and len(given) > 1:
        raise SettingsError(
            f"`--{given[0]}` prints its answer and nothing else, got `--{given[1]}` too; "
            "leave one of them out"
        )
