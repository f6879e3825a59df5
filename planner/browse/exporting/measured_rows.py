"""What was measured of exports, in the words of the page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evaluators.metric import METRICS
from planner.browse.plan_details import Rows
from planner.reports.known_exports import KnownExport

if TYPE_CHECKING:
    from planner.export.cards.manifest import Manifest, Service

SPEED_HEADS = ["export", "runtime", "each token", "prompt", "perplexity", "weights"]
"""Of the columns of `speed_rows`."""


def speed_rows(exports: Sequence[KnownExport]) -> Rows:
    """Return how each export is served, the dense model's figure behind its own."""
    return [[export.folder.name, *_served(export.manifest.service)] for export in exports]


def _served(service: "Service") -> list[str]:
    latency, perplexity = service.latency, service.perplexity
    decode = {name: each.decode_ms for name, each in latency.items()}
    prefill = {name: each.prefill_ms for name, each in latency.items()}
    return [
        str(service),
        _against(decode, "ms"),
        _against(prefill, "ms"),
        _against({name: each.value for name, each in perplexity.items()}),
        _weights(service),
    ]


def proof_rows(manifest: "Manifest") -> Rows:
    """Return what proving an export found, and how it is served."""
    service = manifest.service
    gap, allowed = manifest.logit_gap, manifest.logit_gap_allowed
    runtime, tokens, prompt, perplexity, weights = _served(service)
    return [
        ["largest difference of logits", f"{gap:.2g} (allowed: {allowed:.2g})"],
        ["tokens it writes as scored", f"{manifest.written_tokens}"],
        ["measured in", runtime],
        ["each token", tokens],
        ["prompt", prompt],
        ["perplexity, held-out text", perplexity],
        ["weights", weights],
        *_prediction(service),
    ]


def _prediction(service: "Service") -> Rows:
    """Return how far the run's latency table was off; nothing where it predicts none."""
    if service.prediction is None:
        return []
    return [["a request as predicted", f"{service.prediction.error:+.1%} off"]]


def _against(values: Mapping[str, float], unit: str = "") -> str:
    """Return a figure of the export beside the dense model's."""
    if not {"pruned", "dense"} <= values.keys():
        return "not measured"
    ours, dense = values["pruned"], values["dense"]
    return f"{ours:.4g} {unit}".strip() + f" (dense: {f'{dense:.4g} {unit}'.strip()})"


def _weights(service: "Service") -> str:
    amounts = {name: METRICS["size"].amount(size) for name, size in service.file_bytes.items()}
    return f"{amounts.get('pruned', '–')} (dense: {amounts.get('dense', '–')})"
