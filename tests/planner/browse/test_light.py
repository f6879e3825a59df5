"""Whoever looks at runs needs no model, and none of what runs one."""

import subprocess
import sys
from pathlib import Path

HEAVY = {"accelerate", "optuna", "pymoo", "torch", "transformers"}
LOOK = """
import sys
from pathlib import Path
from planner.browse.app import opened_app
from planner.browse.callbacks.budget_callbacks import answers
from planner.browse.callbacks.plan_callbacks import difference_of, told
from planner.browse.plan_details import details_of
from planner.browse.table.plan_rows import PlanTable
from planner.browse.requests.request_guard import RequestGuard
from planner.browse.table.row_request import RowRequest
from planner.export.cards.manifest import Manifest
from planner.figures.hypervolume_figure import hypervolume_figure
app, shelf = opened_app(Path(sys.argv[1]), RequestGuard())
assert app.server.test_client().get("/").status_code == 200
look = shelf.look("first")
table = PlanTable([look.points], shows_all=True, brushed=None)
assert table.rows(table.found(RowRequest()))
assert hypervolume_figure([look.points], "light").data
answered, _, _ = answers(shelf, "params<=0.9x", [["first", look.revision]])
best = answered["best"]
found = shelf.ask(lambda run: details_of(run, best, shelf.folder), "first")
assert told(found, "first", "light")["layers"] is not None
assert difference_of(shelf, [["first", best], ["inner/second", best]]).sentence
shelf.close()
print("loaded", *sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


def test_a_look_loads_no_model(two_runs: Path) -> None:
    command = [sys.executable, "-c", LOOK, str(two_runs), *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "loaded\n", done.stderr
