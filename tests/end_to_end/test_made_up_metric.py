"""A new metric is its file and its entry in the table of metrics: all else reads these two."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.settings import SHORT_TEXT, SMALL

COST = '''
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
QUALITY = '''
"""Share of positions at which the next token of the text is the candidate's most probable."""

from torch import Tensor

from evaluators.quality.comparison import Comparison


def hits(compared: Comparison) -> Tensor:
    """Return 1 if the text goes on with the candidate's most probable token, else 0."""
    return (compared.target_logit == 0).float()
'''
ENTRIES = """
metric.METRICS["halves"] = metric.Metric(
    name="halves", kind="exact", label="half of the parameters", unit="parameters",
    source="made up", suffixes=("", "K", "M", "B"),
)
metric.METRICS["hits"] = metric.Metric(
    name="hits", kind="quality", label="next token foreseen", unit="share of tokens",
    source="made up", direction="maximise", is_searched=True, is_in_fronts=True,
)
"""
SCRIPT = """
import json, sys
from importlib.util import spec_from_file_location
from pathlib import Path

from evaluators import metric


class MadeUpFiles:
    def find_spec(name, path=None, target=None):
        file = Path(sys.argv[1], *name.split(".")[1:]).with_suffix(".py")
        return spec_from_file_location(name, file) if file.is_file() else None


sys.meta_path.append(MadeUpFiles)
{entries}
from planner import search
from planner.export.cards.card import write_card
from planner.export.cards.manifest import Quality
from planner.reports.metric_lists import with_lists
from planner.reports.tables import front_table
from tests.planner.export.cards.manifests import MANIFEST

run = search(sys.argv[2], out=sys.argv[3], **json.loads(sys.argv[4]))
best = run.best("halves<=0.8x")
luckiest = max(plan.score.mean("hits") for plan in run.landed())
card = write_card(MANIFEST.model_copy(update={{"holdout": Quality.of_all(best.holdout)}}))
json.dump(
    {{
        "cost_names": run.cost_names,
        "dense": dict(run.dense),
        "best": dict(best.costs),
        "searched": [plan.quality["hits"].value for plan in run.landed()],
        "luckiest": luckiest,
        "reaching": len(run.front(f"hits>={{luckiest / 2}}")),
        "held_out": best.holdout["hits"].value,
        "card": card,
        "refusals": [*run.answers(["halves<=1", "hits>=2"])["refusal"]],
        "table": front_table(run.front(), marked=best.plan_id).plain,
        "list": with_lists("<!--metrics line-->\\n<!--/metrics-->"),
    }},
    sys.stdout,
)
"""


def test_a_cost_and_a_quality_that_were_just_made_up(tmp_path: Path, saved_llama: Path) -> None:
    for name, text in {"costs/halves.py": COST, "quality/hits.py": QUALITY}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    options = json.dumps(SMALL | SHORT_TEXT | {"budget": "halves<=0.8x", "evaluations": 12})
    places = [str(tmp_path), str(saved_llama), str(tmp_path / "run")]
    script = SCRIPT.format(entries=ENTRIES)
    command = [sys.executable, "-c", script, *places, options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cost_names"] == ["halves"]
    assert found["dense"]["halves"] == found["dense"]["params"] / 2
    assert found["best"]["halves"] == found["best"]["params"] / 2
    assert found["best"]["halves"] <= 0.8 * found["dense"]["halves"]
    cost, quality = found["refusals"]
    assert "cannot be met: the smallest plan of this model has halves " in cost
    reached = float(quality.partition("the nearest reaches hits ")[2].partition(";")[0])
    assert reached <= found["luckiest"]
    assert reached == pytest.approx(found["luckiest"], abs=1e-4)
    assert "ask for no better than that" in quality
    assert found["reaching"] > 0
    header, *rows = found["table"].splitlines()
    assert "halves" in header.split()
    assert len(found["searched"]) >= 12
    assert all(0 <= share <= 1 for share in found["searched"])
    shown = f"{found['held_out']:.1%}"
    assert header.endswith("hits")
    assert next(row for row in rows if row.startswith("→")).endswith(shown)
    assert f"; next token foreseen: {shown}.\n" in found["card"]
    assert found["list"].splitlines()[1].endswith("`kl`, `halves`, `hits`.")
