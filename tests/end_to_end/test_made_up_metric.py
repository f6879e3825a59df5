"""A new cost is its file and its entry in the table of metrics: all else reads these two."""

import json
import subprocess
import sys
from pathlib import Path

from tests import ROOT
from tests.settings import SMALL

FILE = '''
"""Half of the parameters."""

from dataclasses import replace

from evaluators.costs.cost_model import CostedModel
from evaluators.costs.cost_table import CostTable


def halves_table(model: CostedModel) -> CostTable:
    """Count half of the parameters."""
    params = model.table("params")
    tables = tuple(table / 2 for table in params.tables)
    return replace(params, tables=tables, shared=params.shared / 2, rest=params.rest / 2)
'''
ENTRY = """
metric.METRICS["halves"] = metric.Metric(
    name="halves", kind="exact", label="half of the parameters", unit="parameters",
    source="made up", suffixes=("", "K", "M", "B"),
)
"""
SCRIPT = """
import json, sys
from evaluators import costs, metric

costs.__path__.append(sys.argv[1])
{entry}
from planner import search
from planner.reports.metric_lists import with_lists
from planner.reports.tables import front_table

run = search(sys.argv[2], out=sys.argv[3], **json.loads(sys.argv[4]))
best = run.best("halves<=0.8x")
json.dump(
    {{
        "cost_names": run.cost_names,
        "dense": dict(run.dense),
        "best": dict(best.costs),
        "refusal": run.answers(["halves<=1"])["refusal"][0],
        "header": front_table(run.front()).splitlines()[0].split(),
        "list": with_lists("<!--metrics line-->\\n<!--/metrics-->"),
    }},
    sys.stdout,
)
"""


def test_a_budget_is_asked_of_a_metric_that_was_just_made_up(
    tmp_path: Path, saved_llama: Path
) -> None:
    (tmp_path / "costs").mkdir()
    (tmp_path / "costs" / "halves.py").write_text(FILE)
    options = json.dumps(SMALL | {"budget": "halves<=0.8x", "evaluations": 12})
    places = [str(tmp_path / "costs"), str(saved_llama), str(tmp_path / "run")]
    script = SCRIPT.format(entry=ENTRY)
    command = [sys.executable, "-c", script, *places, options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cost_names"] == ["halves"]
    assert found["dense"]["halves"] == found["dense"]["params"] / 2
    assert found["best"]["halves"] == found["best"]["params"] / 2
    assert found["best"]["halves"] <= 0.8 * found["dense"]["halves"]
    assert "cannot be met: the smallest plan of this model has halves " in found["refusal"]
    assert "halves" in found["header"]
    assert found["list"].splitlines()[1].endswith("`kl`, `halves`.")
