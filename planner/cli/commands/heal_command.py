"""``planner heal``: a small model trained to predict as the dense one does."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from planner.cli.command_parser import CommandParser
from planner.cli.settings_arguments import add_option, add_settings, given_settings

if TYPE_CHECKING:
    from planner.recovery.healing.heal_run import Healed


def add_arguments(parser: CommandParser) -> None:
    """Add the command's arguments."""
    from planner.settings.heal import HealSettings

    parser.add_config()
    help_text = (
        "A plan of the run, which stands for its best variant, or one such as a1b2c3d4e5+refit."
    )
    add_option(parser, "plan", str, help_text, group="plan")
    add_option(parser, "budget", str, "Take the best plan of the run within it.", group="plan")
    add_option(parser, "knee", bool, "Take the plan at the knee of the front.", group="plan")
    help_text = "Heal all plans of the front at once, by one training of the weights they share."
    add_option(parser, "front", bool, help_text, group="plan")
    add_settings(parser, HealSettings)
    help_text = "Write the healed plan as an export too; of an export folder, where it is written."
    add_option(parser, "out", Path, help_text, group="output")


def run(options: Namespace) -> None:
    """Heal a plan, a front or an export, and say what came of it."""
    from planner.settings.heal import HealSettings

    settings = HealSettings.checked(**given_settings(options, HealSettings))

    from planner.cli.terminal import Terminal
    from planner.export.healing.heal_source import HealRequest, heal
    from planner.recovery.healing.heal_run import Healed
    from planner.results.recoveries import recovery_sentences

    request = HealRequest(
        plan=options.plan,
        budget=options.budget,
        knee=options.knee,
        front=options.front,
        out=options.out,
    )
    with Terminal() as terminal:
        healed = heal(settings, request, terminal)
    if not isinstance(healed, Healed):
        print(f"the front, KL as a share of what it was: {healed.curve}")
        print("\n".join(line for plan in healed.plans for line in recovery_sentences(plan)))
        return
    print(f"{healed.begun_with}: {healed.curve}")
    print(_holdout(healed))
    if healed.after is not None and request.out is not None:
        print(f"\nexported: {request.out}")


def _holdout(healed: "Healed") -> str:
    """Return a sentence on held-out text, by which nothing was decided."""
    from evaluators.scoring.score import difference

    if healed.after is None:
        return "nothing was changed"
    before, after = healed.before["holdout"]["kl"], healed.after.holdout["kl"]
    change = difference(after, before)
    return (
        f"KL on held-out text {before.value:.4g} → {after.value:.4g}, a change of "
        f"{change.value:+.2g} ± {change.standard_error:.2g}"
    )
