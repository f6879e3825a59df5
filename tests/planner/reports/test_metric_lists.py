"""Lists of metrics in documents are those of the table of metrics."""

import pytest

from evaluators.metric import METRICS, Metric
from planner.reports.metric_lists import with_lists
from tests import ROOT


@pytest.mark.parametrize(("name", "kind"), [("README.md", "line"), ("docs/budgets.md", "table")])
def test_the_documents_list_what_a_budget_may_limit(name: str, kind: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert f"<!--metrics {kind}-->\n" in text
    assert text == with_lists(text), "run `make docs`"


def test_a_list_is_written_between_its_markers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    watts = Metric(
        name="watts", kind="measured", label="power", unit="watts", source="a meter",
        direction="maximise",
    )  # fmt: skip
    loss = Metric(
        name="loss", kind="quality", label="loss", unit="1", source="a sum", is_limitable=False
    )
    monkeypatch.setattr("planner.reports.metric_lists.METRICS", {"watts": watts})
    monkeypatch.setattr("evaluators.metric.METRICS", {"watts": watts, "loss": loss})
    text = "before\n<!--metrics line-->\nold\n<!--/metrics-->\nafter <!--metrics table-->\n"
    assert with_lists(text) == text.replace("old", "`watts`.")
    table = with_lists("<!--metrics table-->\n<!--/metrics-->")
    assert "| `watts` | power | watts | a meter | runs that measure it; at least |" in table
    assert "params" in METRICS  # the real table is untouched
