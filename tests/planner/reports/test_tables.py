"""What a table of plans shows, and leaves out."""

import math

import pandas as pd

from planner.reports import tables
from planner.reports.tables import answers_table, front_table

WIDE = [["", "plan", "params", "", "KL"], ["→", "a1", "50M", "0.5x", "0.25"]]
"""A cost with its share, which has no title, and 27 signs wide."""
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


def test_columns_that_do_not_fit_follow_below_and_a_share_stays_with_its_cost() -> None:
    cost = "   plan  params\n→  a1       50M  0.5x"
    folded = f"{cost}\n\n   plan    KL\n→  a1    0.25"
    assert [tables.table(WIDE, width=width).plain for width in (26, 21, 5)] == [folded] * 3
    whole = f"{cost}  0.25".replace("params", "params" + " " * 10 + "KL")
    assert [tables.table(WIDE, width=width).plain for width in (27, None)] == [whole] * 2


def test_what_is_told_behind_a_row_follows_its_first_columns() -> None:
    text = tables.table(WIDE, styles=["bold"], tails=[": why"], width=21)
    assert text.plain.splitlines()[1].endswith("0.5x: why")
    assert text.plain.count("why") == 1


def test_no_sign_breaks_a_line() -> None:
    rows = [["name", "x"], ["a\nb\u2028c", "\x1b[31m"]]
    assert tables.aligned_lines(rows)[1] == "a\\nb\\u2028c  \\x1b[31m"
