"""The one table of metrics, and one measured value.

A new metric is one file and its entry here. A cost is computed by ``NAME_table`` in
evaluators/costs/NAME.py, a quality metric by ``NAME`` in evaluators/quality/NAME.py: both are
found by the name, or by the entry's ``file``. Budgets, cost models, runs, tables, cards and
documents read the entry.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["minimise", "maximise"]
Kind = Literal["exact", "sparse", "experts", "measured", "quality"]
"""Costs of every model; costs that only zeros make others; costs of models with experts alone;
costs that need a table of latencies; and what is measured of a plan's predictions."""
COST_KINDS: tuple[Kind, ...] = ("exact", "sparse", "experts", "measured")

_DIGITS = 4
"""Of an amount that has no unit; more where it has as many before its point."""
_COUNTED = ("", "K", "M", "B")
_BYTES = (" B", " kB", " MB", " GB")
_BINARY_UNITS = {"KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """Something that can be measured of a plan."""

    name: str
    """As used in budgets, tables and files."""
    kind: Kind
    label: str
    """What cards and pictures call it."""
    unit: str
    direction: Direction = "minimise"
    source: str
    """Where the definition comes from."""
    suffixes: tuple[str, ...] = ()
    """Units of amounts that people read and write, each a thousand times the last."""
    is_limitable: bool = True
    """Whether a budget may limit it."""
    reading_of: str = ""
    """The cost that it is another reading of, and that is minimised in its place."""
    has_share: bool = False
    """Whether tables of fronts show it as a share of the dense model's too."""
    file: str = ""
    """Name of the file of code that computes it, if it is not the metric's."""
    lowest: float = 0.0
    """Its least value; what rounding leaves below is this."""
    is_searched: bool = False
    """Whether all candidates of a search are measured by it, and not the front alone."""
    is_in_fronts: bool = False
    """Whether tables of fronts and cards show it, next to KL."""
    compares_distributions: bool = False
    """Whether it is of all of the vocabulary, and takes a second pass over that."""
    exponential: str = ""
    """What its exponential is called, which is shown in its place."""

    @property
    def is_cost(self) -> bool:
        """Whether it is known before a plan is scored, and has a share of the dense model's."""
        return self.kind in COST_KINDS

    @property
    def is_maximised(self) -> bool:
        """Whether more is better."""
        return self.direction == "maximise"

    @property
    def is_per_token(self) -> bool:
        """Whether it is of each token."""
        return self.unit.endswith("/token") and self.is_cost

    @property
    def minimised(self) -> str:
        """Name of the cost that is minimised where this is limited."""
        return self.reading_of or self.name

    @property
    def units(self) -> Mapping[str, float]:
        """Units that an amount may be written in, each with what it stands for."""
        units = {suffix.strip(): 1000.0**power for power, suffix in enumerate(self.suffixes)}
        units.pop("", None)
        return units | (_BINARY_UNITS if self.suffixes == _BYTES else {})

    def amount(
        self,
        value: float,
        most_decimals: int = 1,
        *,
        rounded: Callable[[float, int], float] = lambda number, _decimals: number,
    ) -> str:
        """Format a value with its unit for display.

        Args:
            value: In the metric's own unit.
            most_decimals: Where it has any.
            rounded: Rounds to so many decimals; by default as Python formats.

        >>> METRICS["params"].amount(134_515_008), METRICS["size"].amount(180_200_000)
        ('134.5M', '180.2 MB')
        """
        if self.exponential:
            return f"{exponential(value):.2f}"
        if self.unit.startswith("share"):
            return f"{value:.1%}"
        if not self.suffixes:
            digits = max(_DIGITS, _whole_digits(value))
            number = rounded(value, digits - _whole_digits(value))
            return f"{number:.{digits}g}"
        # 999,960 reads 1.0M and not 1000.0K
        power = sum(value >= 0.99995 * 1000.0**i for i in range(1, len(self.suffixes)))
        decimals = most_decimals if power or self.kind == "measured" else 0
        number = rounded(value / 1000.0**power, decimals)
        per_token = "/token" if self.is_per_token else ""
        return f"{number:.{decimals}f}{self.suffixes[power]}{per_token}"


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="params", kind="exact", label="parameters", unit="parameters",
            source="all that are stored, tied ones once", suffixes=_COUNTED, has_share=True,
        ),
        Metric(
            name="size", kind="exact", label="weights on disk", unit="bytes",
            source="tensor data in the file, scales and all", suffixes=_BYTES,
        ),
        Metric(
            name="bits", kind="exact", label="bits a weight", unit="bits/parameter",
            source="bytes of tensor data, scales and all, over parameters", reading_of="size",
        ),
        Metric(
            name="macs", kind="exact", label="multiply–accumulates a token",
            unit="multiply-accumulates/token", suffixes=("", "K", "M", "G", "T"),
            source="matrix products with weights, attention scores and weighted values; "
            "half of FLOPs",
        ),
        Metric(
            name="kv", kind="exact", label="cache a token", unit="bytes/token",
            source="keys and values of every layer", suffixes=_BYTES,
        ),
        Metric(
            name="nonzero", kind="sparse", label="parameters that are not zero", unit="parameters",
            source="parameters but for those that sparsity sets to zero", suffixes=_COUNTED,
            has_share=True,
        ),
        Metric(
            name="packed", kind="sparse", label="weights on disk, were zeros packed", unit="bytes",
            source="tensor data with sparse matrices as bitmask and values, N:M ones too",
            suffixes=_BYTES,
        ),
        Metric(
            name="active", kind="experts", label="parameters that run for a token",
            unit="parameters/token", suffixes=_COUNTED,
            source="parameters but for those of experts that do not run for the token",
        ),
        Metric(
            name="active_size", kind="experts", label="weights that run for a token",
            unit="bytes/token", suffixes=_BYTES,
            source="bytes of tensor data but for experts that do not run for the token",
        ),
        Metric(
            name="loading", kind="experts", label="weights read for a token", unit="bytes/token",
            source="weights of the experts that run for one token, and of the shared one",
            suffixes=_BYTES, file="expert_bytes",
        ),
        Metric(
            name="latency", kind="measured", label="request, predicted",
            unit="milliseconds/request", suffixes=(" ms", " s"),
            source="sum over a table measured on the device: the prompt, and each new token",
        ),
        Metric(
            name="throughput", kind="measured", label="throughput, predicted",
            unit="tokens/second", direction="maximise", suffixes=(" tokens/s",),
            source="new tokens of a request over its latency; prompt tokens where none are new",
            reading_of="latency",
        ),
        Metric(
            name="kl", kind="quality", label="KL to the dense model", unit="nats/token",
            source="Kullback & Leibler, 1951; as a pruning objective: EvoPress (Sieberling et "
            "al., 2024)",
            is_searched=True,
        ),
        Metric(
            name="nll", kind="quality", label="negative log-likelihood", unit="nats/token",
            source="Jelinek et al., 1977: perplexity is its exponential", is_limitable=False,
            is_searched=True, is_in_fronts=True, exponential="perplexity",
        ),
        Metric(
            name="agreement", kind="quality",
            label="most probable token as in the dense model",
            unit="share of tokens", direction="maximise", is_limitable=False,
            is_searched=True, is_in_fronts=True,
            source="top-1 agreement with the teacher: Stanton et al., 2021",
        ),
        Metric(
            name="acceptance", kind="quality", label="drafted tokens accepted",
            unit="share of tokens", direction="maximise", is_limitable=False,
            compares_distributions=True,
            source="expected acceptance of speculative decoding: Leviathan et al., 2023, "
            "corollary 3.6",
        ),
        Metric(
            name="cosine", kind="quality", label="cosine of last hidden states", unit="cosine",
            direction="maximise", is_limitable=False, lowest=-1.0,
            source="of the last hidden states, as a distillation loss: DistilBERT (Sanh et al., "
            "2019)",
        ),
    )
}  # fmt: skip
"""All metrics by name, in the order in which tables show them."""


def metric_names(*kinds: Kind) -> tuple[str, ...]:
    """Return the names of the metrics of some kinds, in their order."""
    return tuple(metric.name for metric in METRICS.values() if metric.kind in kinds)


def limitable_names() -> tuple[str, ...]:
    """Return the names of the metrics that a budget may limit, in their order.

    Every plan must have what is limited, so no quality that the front alone is measured by.
    """
    return tuple(
        metric.name
        for metric in METRICS.values()
        if metric.is_limitable and (metric.is_cost or metric.is_searched)
    )


def searched_names() -> tuple[str, ...]:
    """Return the names of the metrics that all candidates of a search are measured by."""
    return tuple(metric.name for metric in METRICS.values() if metric.is_searched)


def front_metrics() -> tuple[Metric, ...]:
    """Return the metrics of quality that are shown of a plan next to KL, in their order."""
    return tuple(metric for metric in METRICS.values() if metric.is_in_fronts)


def _whole_digits(value: float) -> int:
    """Return how many digits a number has before its point; below 0: so many zeros after it."""
    return math.floor(math.log10(abs(value))) + 1 if value else 0


def exponential(value: float) -> float:
    """Return an exponential; that of a ruined model's loss may exceed the largest float."""
    return math.exp(min(value, 700.0))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value of a metric with its standard error, 0 if the value is exact."""

    value: float
    standard_error: float = 0.0
    by_window: tuple[float, ...] = field(default=(), compare=False, repr=False)
    """The values it is the mean of, window by window; empty if these are not kept."""

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.standard_error:.3f}"
