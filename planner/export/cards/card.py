"""The model card: what was pruned from what, and what it costs."""

import math
from pathlib import Path

from evaluators.metric import METRICS, Metric, front_metrics
from planner.export.cards.card_parts import head, named_text, origin_text
from planner.export.cards.manifest import Manifest, Service
from planner.export.cards.markdown import code, escaped
from planner.targets.target_names import TargetName

_CARD = """\
# {title}, {made}

Made from {source} by compression-planner, plan `{plan_id}`: {tensors}, no
masks{untrained}.{notes}{experts}{fitted}

| | dense | pruned | |
|---|---:|---:|---:|
{rows}

{quality}The reloaded model's logits differ from those of the candidate that the search scored by
at most {gap:.1e} (allowed: {allowed:.1e}) in {runtime}, with its cache and without by at most
{cache_gap:.1e}; {written} tokens that it writes are those of the candidate. {served}{latency}

{loading}
{origin}

`plan.json` lists what was kept of every layer, `manifest.json` what was measured.
"""


_LIBRARIES: dict[TargetName, str] = {"gguf": "gguf", "onnx": "onnx"}
"""What the hub calls that which loads a format; all else is for transformers."""


def write_card(manifest: Manifest) -> str:
    """Return the text of ``README.md``."""
    sparse = manifest.costs.get("nonzero", math.inf) < manifest.costs["params"]
    rows = [
        row
        for name, cost in manifest.costs.items()
        if sparse or METRICS[name].kind != "sparse"
        for row in _cost_rows(manifest, METRICS[name], cost)
    ]
    rows += [*_latency_rows(manifest.service), *_perplexity_rows(manifest.service)]
    name = Path(manifest.source).name
    library = _LIBRARIES.get(manifest.format, "")
    tags = ["pruned", *filter(None, [library])]
    return head(manifest.origin, tags, library or "transformers") + _CARD.format(
        title=escaped(name),
        source=code(name),
        made=_made(manifest),
        tensors="smaller tensors" if _is_smaller(manifest) else "tensors of the same shapes",
        plan_id=manifest.plan_id,
        untrained=", no training" if manifest.recovery is None else "",
        notes="".join(f" {note}" for note in manifest.notes),
        experts=f"\n\n{manifest.experts}" if manifest.experts else "",
        rows="\n".join(rows),
        fitted=_fitted(manifest),
        quality=_quality(manifest),
        gap=manifest.logit_gap,
        allowed=manifest.logit_gap_allowed,
        cache_gap=manifest.cache_gap,
        written=manifest.written_tokens,
        runtime=manifest.service.runtime,
        served=_served(manifest.service),
        latency=_latency(manifest.service),
        loading=manifest.loading,
        origin=origin_text(manifest.origin),
    )


def _is_smaller(manifest: Manifest) -> bool:
    return manifest.costs["params"] < manifest.dense_costs["params"]


def _made(manifest: Manifest) -> str:
    """Return what was made of the dense model, in a few words."""
    params = manifest.costs["params"]
    if _is_smaller(manifest):
        return f"pruned to {params / manifest.dense_costs['params']:.0%} of its parameters"
    if (nonzero := manifest.costs.get("nonzero", params)) < params:
        return f"with {nonzero / params:.0%} of its weights other than zero"
    return "in fewer bits"


def _fitted(manifest: Manifest) -> str:
    """Return sentences on the text that a plan was found on, and on what else changed weights."""
    if not manifest.text:
        return ""
    searched = f" It was searched on {named_text(manifest.text)}"
    if not manifest.compensate:
        return f"{searched}."
    return (
        f"{searched}, on which kept weights were updated to compensate for pruned ones "
        f"({manifest.compensate})."
    )


def _cost_rows(manifest: Manifest, metric: Metric, cost: float) -> list[str]:
    """Return the row of a cost; of bytes on disk two, where they were written dequantised."""
    if metric.name == "bits" and "file_type" in manifest.service.served_as:
        return []  # which are the file's, whatever the plan has
    values = {metric.label: cost}
    dense = manifest.dense_costs[metric.name]
    if metric.name == "size" and manifest.format != "hf":  # in number formats of its own
        written = manifest.service.file_bytes
        if not written["dense"]:  # its files are not at hand
            return []
        values, dense = {f"{metric.label}, {manifest.format}": written["pruned"]}, written["dense"]
    elif metric.name == "size" and manifest.written_size is not None:
        values = {
            f"{metric.label}, as written": manifest.written_size,
            f"{metric.label}, were their formats kept": cost,
        }
    return [
        _row(label, metric.amount(dense), metric.amount(value), value / (dense or 1.0))
        for label, value in values.items()
    ]


def _row(name: str, dense: str, pruned: str, ratio: float) -> str:
    return f"| {name} | {dense} | {pruned} | {ratio:.2f}x |"


def _latency_rows(service: Service) -> list[str]:
    """Return the rows of the table on what was measured end to end, if it was."""
    if not service.latency:
        return []
    dense, pruned = service.latency["dense"], service.latency["pruned"]
    prompt = f"prefill, {service.workload.prompt_tokens} tokens"
    return [
        _row(name, f"{before:.1f} ms", f"{after:.1f} ms", after / before)
        for name, before, after in (
            (prompt, dense.prefill_ms, pruned.prefill_ms),
            ("decode, one token", dense.decode_ms, pruned.decode_ms),
        )
    ]


def _perplexity_rows(service: Service) -> list[str]:
    """Return the row on perplexity in the runtime, if there is held-out text."""
    if not service.perplexity:
        return []
    dense, pruned = service.perplexity["dense"], service.perplexity["pruned"]
    ratio = pruned.value / dense.value
    name = f"perplexity on held-out text, {service.runtime}"
    return [_row(name, str(dense), str(pruned), ratio)]


def _served(service: Service) -> str:
    """Return a sentence on what both models were measured in."""
    return f"Measured in {service}, {service.threads} threads. "


def _latency(service: Service) -> str:
    """Return sentences on how latency was measured, or why it was not."""
    if not service.latency:
        return f"Latency was not measured: {service.latency_missing}."
    return f"Latency: batch {service.workload.batch_size}.{_prediction(service)}"


def _prediction(service: Service) -> str:
    """Return sentences on what the search predicted of a request, and what was measured."""
    prediction, workload = service.prediction, service.workload
    if prediction is None:
        return ""
    predicted_ms, measured_ms = (
        [workload.request_ms(latency) for latency in pair]
        for pair in (
            (prediction.pruned, prediction.dense),
            (service.latency["pruned"], service.latency["dense"]),
        )
    )
    predicted_share = predicted_ms[0] / predicted_ms[1]
    measured_share = measured_ms[0] / measured_ms[1]
    return (
        f" A request ({workload}) was predicted to take {predicted_ms[0]:.0f} ms, "
        f"{predicted_share:.3f}x of the dense model's; measured end to end it takes "
        f"{measured_ms[0]:.0f} ms, {measured_share:.3f}x: the prediction is off by "
        f"{prediction.error:+.1%} in milliseconds and {prediction.share_error:+.1%} in the share."
    )


def _quality(manifest: Manifest) -> str:
    measured = manifest.holdout or manifest.search
    if not measured:
        return ""
    text = "held-out text" if manifest.holdout else "the search text"
    kl = measured["kl"]
    others = "".join(
        f"; {metric.exponential or metric.label}: {metric.amount(measured[metric.name].value)}"
        for metric in front_metrics()
        if metric.name in measured
    )
    return (
        f"KL divergence from the dense model on {text}: {kl.value:.3f} ± "
        f"{kl.standard_error:.3f} nats a token{others}.{_quality_there(manifest)}\n\n"
    )


def _quality_there(manifest: Manifest) -> str:
    """Return a sentence on the KL divergence in the runtime, where both are of held-out text."""
    service, scored = manifest.service, manifest.holdout.get("kl")
    if service.kl is None or scored is None:
        return ""
    there = f" Between both files in {service.runtime} it is {service.kl} on the same text"
    if service.kl.is_as_promised(scored):
        return f"{there}, which is within the error of that."
    return f"{there}, which differs by more than the error of that: what is served is the latter."
