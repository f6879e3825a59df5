"""A run heals its plans from Python with the settings of the command."""

from pathlib import Path

import pytest

from planner import Run
from planner.recovery.healing.heal_run import Healed
from search_spaces.errors import SettingsError
from tests.planner.recovery.healing.texts import random_text


def test_a_run_heals_a_plan_and_holds_it_as_a_variant(searched_copy: Path, tmp_path: Path) -> None:
    text = random_text(tmp_path / "text.txt")
    with Run.open(searched_copy) as run:
        plan = run.front_plans()[-1]
        healed = run.heal(
            plan.plan_id, data=str(text), window_tokens=32, windows=4, tokens=2560, lr=3e-4
        )
        assert isinstance(healed, Healed)
        assert healed.after is not None
        again = run.find_plan(plan.plan_id)
        assert again is not None
        assert again.recovered["heal"] == healed.after


def test_what_does_not_go_together_is_refused(searched_copy: Path) -> None:
    with Run.open(searched_copy) as run:
        with pytest.raises(SettingsError, match="needs one of"):
            run.heal()
        with pytest.raises(SettingsError, match="rate"):
            run.heal(front=True, rate=1.0)
