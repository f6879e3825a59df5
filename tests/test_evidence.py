"""README.md shows the figures that the last `make evidence` left, and they are today's demo's."""

import csv
import json

from benchmarks.evidence import FIGURES, block, committed
from planner.cli.demo_command import BUDGET
from tests import ROOT


def test_the_readme_shows_the_committed_figures() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    assert committed() == block(figures)


def test_the_committed_files_are_of_one_run() -> None:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    with FIGURES.with_name("front.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["plan_id"] for row in rows] == [row["plan_id"] for row in figures["front"]]
    printed = FIGURES.with_name("demo.txt").read_text(encoding="utf-8")
    assert f"within {BUDGET}: plan {figures['plans']['pruned']['plan_id']}" in printed
    assert figures["budget"] == BUDGET
    assert (ROOT / "results/smollm2-135m/front.png").is_file()
