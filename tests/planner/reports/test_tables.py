"""What a table of plans shows, and leaves out."""

import math

import pandas as pd

from planner.reports.tables import answers_table, front_table

MEASURED = {"kl": 0.1, "kl_se": 0.01, "agreement": 0.9, "params_x": 0.5, "nonzero_x": 0.5}


def table(nonzero: float) -> str:
    plan = {"budget": "params<=0.5x", "plan_id": "a", "params": 50e6, "nonzero": nonzero}
    frame = pd.DataFrame(
        [
            plan | MEASURED | {"refusal": ""},
            {"budget": "params<=0.1x", "plan_id": "", "refusal": "no plan"},
        ]
    )
    return answers_table(frame).plain


def test_costs_that_count_zeros_are_shown_only_if_some_weights_are_zero() -> None:
    assert "nonzero" not in table(nonzero=50e6)
    assert "nonzero" in table(nonzero=40e6)
    assert table(nonzero=50e6).endswith("none: no plan")


def test_what_is_not_measured_of_a_plan_is_left_empty() -> None:
    rescored = {"holdout_kl": 0.2, "holdout_kl_se": 0.01, "holdout_nll": math.log(30.0)}
    plan = {"plan_id": "a", "params": 50e6} | MEASURED | rescored
    header, row = front_table(pd.DataFrame([plan])).plain.splitlines()
    assert header.endswith("KL held-out  perplexity  agreement")
    assert row.endswith("0.200 ± 0.010       30.00")
