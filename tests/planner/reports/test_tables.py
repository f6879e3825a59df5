"""What a table of plans shows, and leaves out."""

import pandas as pd

from planner.reports.tables import answers_table

MEASURED = {"kl": 0.1, "kl_se": 0.01, "agreement": 0.9, "params_x": 0.5, "nonzero_x": 0.5}


def table(nonzero: float) -> str:
    plan = {"budget": "params<=0.5x", "plan_id": "a", "params": 50e6, "nonzero": nonzero}
    frame = pd.DataFrame(
        [
            plan | MEASURED | {"refusal": ""},
            {"budget": "params<=0.1x", "plan_id": "", "refusal": "no plan"},
        ]
    )
    return answers_table(frame)


def test_costs_that_count_zeros_are_shown_only_if_some_weights_are_zero() -> None:
    assert "nonzero" not in table(nonzero=50e6)
    assert "nonzero" in table(nonzero=40e6)
    assert table(nonzero=50e6).endswith("none: no plan")
