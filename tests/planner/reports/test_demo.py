"""What the demo prints of its export."""

from pathlib import Path

from planner import Run
from planner.reports.demo import demo_summary
from tests.planner.export.cards.manifests import MANIFEST


def test_an_export_without_latency_is_told_without_it(searched: Path) -> None:
    run = Run.open(searched)
    model = Path("pruned")
    with_latency = demo_summary(run, "params<=0.8x", model, MANIFEST, {})
    assert "prefill of 128 tokens" in with_latency
    assert "100 ms" in with_latency
    missing = {"latency": {}, "latency_missing": "it is too long"}
    service = MANIFEST.service.model_copy(update=missing)
    unmeasured = MANIFEST.model_copy(update={"service": service})
    without = demo_summary(run, "params<=0.8x", model, unmeasured, {})
    gone = [x for x in with_latency.splitlines() if x.startswith(("prefill of", "decode of"))]
    assert len(gone) == 2
    assert not any(name in without for name in ("prefill of", "decode of"))
    assert "reloaded and proved" in without
