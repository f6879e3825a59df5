"""``planner front``: the front of a run, and the best plan within a budget."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option

if TYPE_CHECKING:
    import pandas as pd
    from rich.text import Text

    from planner.run import Run
    from planner.settings.budget import Budget

logger = logging.getLogger(__name__)

_REPORTS = ("against", "reference", "stability")


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.cli.printing import add_formats

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
    help_text = "Folder of another run, whose front is compared with this one."
    add_option(parser, "against", Path, help_text, group=report)
    help_text = "KL at the reference point of the hypervolume."
    add_option(parser, "reference", float, help_text, group=report)
    help_text = "Rank the front again on the fresh windows, and report what changes."
    add_option(parser, "stability", bool, help_text, group=report)
    add_formats(
        parser,
        "Print a JSON list with an object a plan: every cost and score, best and knee; with "
        "--budgets an object a budget.",
        "Print the same as CSV, a row a plan or a budget.",
    )


def run(options: Namespace) -> None:
    """Print the front of a run."""
    from planner.cli.printing import print_frame, show, terminal_width, wants_data
    from planner.reports.tables import answers_table
    from planner.results.budgets import split_budgets
    from planner.results.plan_columns import with_every_column
    from planner.run import Run
    from planner.settings.budget import Budget

    is_data = wants_data(options)
    opened_run = Run.open(options.run, live=False)
    _check_choice(options)
    if options.budgets is not None:
        answers = opened_run.answers(split_budgets(options.budgets))
        if is_data:
            print_frame(with_every_column(answers, opened_run.dense, ["budget"]), options)
        else:
            show(answers_table(answers, width=terminal_width()))
        _check_answered(answers)
        return
    budget = Budget.parse(options.budget) if options.budget else None
    if is_data:
        print_frame(_front_frame(opened_run, budget, at_knee=options.knee), options)
        _tell_unfinished(opened_run)
        return
    # all that may be refused comes before the table
    reports = _reports(opened_run, options)
    print_front(opened_run, budget, at_knee=options.knee)
    for text in reports:
        print()
        show(text)


def _reports(run: "Run", options: Namespace) -> list["Text"]:
    """Return what is told below the table."""
    from rich.text import Text

    from planner.cli.printing import terminal_width
    from planner.reports.sentences import (
        front_sentence,
        restriction_sentence,
        stability_sentences,
        status_sentence,
    )
    from planner.reports.tables import stability_table
    from planner.run import Run

    sentences = [front_sentence(run, reference=options.reference), restriction_sentence(run)]
    texts = [Text("\n".join(filter(None, sentences)))]
    if options.against:
        texts.append(_against(run, Run.open(options.against, live=False)))
    if options.stability:
        stability = run.stability()
        table = stability_table(stability, width=terminal_width())
        texts += [table, Text(stability_sentences(stability))]
    unfinished = status_sentence(run)
    return [*texts, Text(unfinished, "yellow")] if unfinished else texts


def _against(run: "Run", other: "Run") -> "Text":
    """Return how the fronts of two runs compare: in whole, and at the same costs."""
    from rich.text import Text

    from planner.cli.printing import terminal_width
    from planner.reports.sentences import equal_cost_sentence, rivalry_sentences
    from planner.reports.tables import equal_cost_table
    from planner.results.equal_cost import at_equal_cost

    rivalry, found = rivalry_sentences(run, other), at_equal_cost(run, other)
    text = Text(f"{rivalry}\n\n{equal_cost_sentence(run, other, found)}")
    if not found:
        return text
    table = equal_cost_table(found, run.cost_names, width=terminal_width())
    return Text("\n").join([text, table])


def print_front(run: "Run", budget: "Budget | None", *, at_knee: bool = False) -> None:
    """Print the table of a front, the plan chosen from it, and how baselines compare.

    Raises:
        BudgetError: If no plan of the run meets the budget.
    """
    from planner.cli.printing import show, terminal_width
    from planner.reports.answer import answer_sentence
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
    show(front_table(run.front(), marked=chosen_id, knee=knee_id, width=terminal_width()))
    if refusal:
        raise refusal
    baselines_within = run.metadata.baselines_within
    if budget and chosen:
        print(f"\nwithin {budget}: {answer_sentence(run, budget)}")
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


def _front_frame(run: "Run", budget: "Budget | None", *, at_knee: bool) -> "pd.DataFrame":
    """Return a front as data: every column of a plan, which one is chosen, and the knee.

    Raises:
        BudgetError: If no plan of the run meets the budget.
    """
    from planner.results.plan_columns import with_every_column

    frame, knee = with_every_column(run.front(), run.dense), run.knee()
    best = run.best(budget) if budget else knee if at_knee else None
    ids = {"best": best and best.plan_id, "knee": knee and knee.plan_id}
    return frame.assign(**{name: frame["plan_id"] == plan_id for name, plan_id in ids.items()})


def _tell_unfinished(run: "Run") -> None:
    """Say beside data how far a run has come, if it is not finished."""
    from planner.reports.sentences import status_sentence

    if unfinished := status_sentence(run):
        logger.warning(unfinished)


def _check_answered(answers: "pd.DataFrame") -> None:
    """Refuse budgets of which none is met.

    Raises:
        BudgetError: If it is so.
    """
    from search_spaces.errors import BudgetError

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
        for name in ("budgets", "budget", "knee", *_REPORTS)
        if getattr(options, name) is not None and getattr(options, name) is not False
    ]  # a 0 was given too
    alone = next((name for name in ("json", "csv") if getattr(options, name)), None)
    beside = [name for name in given if name in _REPORTS]
    if given[0:1] == ["budgets"] and len(given) > 1:
        alone, beside = "budgets", given[1:]
    if alone and beside:
        raise SettingsError(
            f"`--{alone}` prints its answer and nothing else, got `--{beside[0]}` too; "
            "leave one of them out"
        )
