"""README.md shows the figures that the last `make evidence` left, and they are today's demo's."""

import csv
import json

from benchmarks.evidence import FIGURES, PRINTED, block, committed
from planner.cli.commands.demo_command import BUDGET, SMALL_BUDGET, demo_settings
from planner.settings.budget import Budget
from tests import ROOT


def test_the_readme_shows_the_committed_figures() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    assert committed() == block(figures, PRINTED.read_text(encoding="utf-8"))


def test_the_committed_files_are_of_one_run() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    with FIGURES.with_name("front.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["plan_id"] for row in rows] == [row["plan_id"] for row in figures["front"]]
    printed = PRINTED.read_text(encoding="utf-8")
    assert f"within {BUDGET}: plan {figures['plans']['pruned']['plan_id']}" in printed
    assert figures["budget"] == BUDGET
    assert all("fresh_kl" in row for row in figures["front"])


def test_the_committed_figures_are_of_the_demo_as_it_is() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    settings = demo_settings()
    assert figures["settings"] == {name: getattr(settings, name) for name in figures["settings"]}
    assert len(figures["settings"]) == 6


def test_the_second_answer_is_within_its_budget() -> None:
    small = json.loads(FIGURES.read_text(encoding="utf-8"))["small"]
    best, dense = small["plans"]["best"], {"size": small["dense_size"]}
    assert small["budget"] == SMALL_BUDGET
    assert Budget.of(SMALL_BUDGET).admits(best["costs"], dense)
    # the file holds a tokenizer too
    assert best["costs"]["size"] < small["file_bytes"]["pruned"] < 1.1 * best["costs"]["size"]
    assert small["run_line"].startswith("llama-cli -m ")
    assert f"within {SMALL_BUDGET}: plan {best['plan_id']}" in PRINTED.read_text(encoding="utf-8")


def test_the_search_text_does_not_halve_what_held_out_text_shows() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    pruned = figures["plans"]["pruned"]
    searched = next(r["kl"] for r in figures["front"] if r["plan_id"] == pruned["plan_id"])
    assert searched > 0.5 * pruned["holdout"]["kl"]["value"]


def test_the_picture_is_there() -> None:
    assert (ROOT / "results/smollm2-135m/front.png").is_file()
