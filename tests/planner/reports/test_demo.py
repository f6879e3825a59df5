"""What the demo prints of its exports."""

from pathlib import Path

from planner import Run
from planner.export.cards.manifest import Divergence, Manifest
from planner.reports.demo import DemoAnswer, demo_summary, small_summary
from tests.planner.export.cards.manifests import MANIFEST


def answer(searched: Path, manifest: Manifest) -> DemoAnswer:
    return DemoAnswer(
        run=Run.open(searched), budget="params<=0.8x", model=Path("pruned"), manifest=manifest
    )


def test_an_export_without_latency_is_told_without_it(searched: Path) -> None:
    with_latency = demo_summary(answer(searched, MANIFEST), {})
    assert "prefill of 128 tokens" in with_latency
    assert "100 ms" in with_latency
    missing = {"latency": {}, "latency_missing": "it is too long"}
    service = MANIFEST.service.model_copy(update=missing)
    unmeasured = MANIFEST.model_copy(update={"service": service})
    without = demo_summary(answer(searched, unmeasured), {})
    gone = [x for x in with_latency.splitlines() if x.startswith(("prefill of", "decode of"))]
    assert len(gone) == 2
    assert not any(name in without for name in ("prefill of", "decode of"))
    assert "reloaded and proved" in without


def test_the_second_answer_says_how_it_is_stored_and_run(searched: Path) -> None:
    measured = {"kl": Divergence(value=0.25, standard_error=0.01)}
    service = MANIFEST.service.model_copy(update=measured)
    told = answer(searched, MANIFEST.model_copy(update={"service": service}))
    lines = small_summary(told).splitlines()
    assert lines[0] == f"within params<=0.8x: plan {told.best.plan_id}, as a GGUF file"
    plan = told.run.stored_plan(told.best.plan_id)
    assert plan is not None
    kept = sum(1 for each in plan.sites.values() if each.kept)
    (stored,) = (line for line in lines if line.startswith("its source is"))
    assert stored.endswith(f"of {kept} components {kept} are in 16 bits")
    assert "in llama.cpp KL 0.250 ± 0.010, 9.0 ms a token (dense: 10.0 ms)" in lines
    assert lines[-1] == "run it:   llama-cli -m pruned/model.gguf"
