"""Budgets: limits on cost and quality such as ``params<=0.7x,kl<=0.05``."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

from planner.settings.signs import plain_signs
from search_spaces.errors import BudgetError
from search_spaces.suggestions import shown, suggestion

EXACT_NAMES = ("params", "size", "macs", "kv")
"""Parameters; bytes of the weights; multiply-accumulates and KV-cache bytes per token."""
MEASURED_NAMES = ("latency", "throughput")
"""Milliseconds of a request, and tokens per second; only in runs that measured them."""
SPARSE_NAMES = ("nonzero", "packed")
"""Nonzero parameters; bytes of the weights if sparse matrices are stored packed."""
EXPERT_NAMES = ("active", "loading")
"""Active parameters of a token, and bytes of experts read for it; only in models with experts."""
COST_NAMES = EXACT_NAMES + SPARSE_NAMES + EXPERT_NAMES + MEASURED_NAMES
QUALITY_NAMES = ("kl",)
"""Divergence from the dense model, in nats per token."""

_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "params": ("", "K", "M", "B"),
    "size": (" B", " kB", " MB", " GB"),
    "macs": ("", "K", "M", "G", "T"),
    "kv": (" B", " kB", " MB", " GB"),
    "nonzero": ("", "K", "M", "B"),
    "packed": (" B", " kB", " MB", " GB"),
    "active": ("", "K", "M", "B"),
    "loading": (" B", " kB", " MB", " GB"),
    "latency": (" ms", " s"),
    "throughput": (" tokens/s",),
}
_BINARY_UNITS = {"KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}
_BYTE_NAMES = ("size", "kv", "packed", "loading")
_PER_TOKEN_NAMES = ("macs", "kv", "active", "loading")
_AT_LEAST_NAMES = ("throughput",)
_TERM = re.compile(r"([^<>=\s]+)\s*([<>=]+)\s*(.*)")
_VALUE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*(?:/s)?)(/token)?")
_EXAMPLE = "params<=0.7x,kl<=0.05"
# rounding: 0.7 times a cost need not equal the cost of a plan that keeps 70 % of it
_TOLERANCE = 1e-9
# divides in the place of a limit of 0
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Limit:
    """An upper limit on one metric, or a lower limit on one that is maximised."""

    metric: str
    value: float
    relative: bool
    """Whether ``value`` is a multiple of the dense model's value."""

    @property
    def operator(self) -> str:
        """``<=``, or ``>=`` for a metric that is maximised."""
        return _operator(self.metric)

    def __str__(self) -> str:
        if self.relative:
            return f"{self.metric}{self.operator}{_plain(self.value)}x"
        exact = [
            f"{_plain(self.value / scale)}{unit}"
            for unit, scale in _units(self.metric).items()
            if self.value / scale * scale == self.value
        ]
        return f"{self.metric}{self.operator}{min([*exact, _plain(self.value)], key=len)}"

    def absolute(self, dense: Mapping[str, float]) -> float:
        """Return the limit in the metric's own unit."""
        return self.value * dense[self.metric] if self.relative else self.value

    def excess(self, value: float, dense: Mapping[str, float]) -> float:
        """Return how far a value exceeds the limit, relative to it; 0 or less meets it."""
        limit = self.absolute(dense)
        difference = limit - value if self.metric in _AT_LEAST_NAMES else value - limit
        return difference / max(limit, _TINY)

    def admits(self, value: float, dense: Mapping[str, float]) -> bool:
        """Return whether a value meets the limit."""
        return self.excess(value, dense) <= _TOLERANCE

    def reached(self, value: float, dense: Mapping[str, float]) -> str:
        """Describe a value in the style of this limit, never rounded to look better than it is."""
        if self.metric in QUALITY_NAMES:
            return f"{self.metric} {_rounded_up(value, 4):g}"
        worse = _rounded_down if self.metric in _AT_LEAST_NAMES else _rounded_up
        share = f"{worse(relative_cost(self.metric, value, dense), 3):g}x"
        amount = _amount(self.metric, value, worse)
        first, second = (share, amount) if self.relative else (amount, share)
        return f"{self.metric} {first} ({second})"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits that a plan must all meet."""

    limits: tuple[Limit, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse comma-separated ``NAME<=VALUE`` terms.

        Raises:
            BudgetError: If the text breaks the grammar; the message names the term.
        """
        limits = tuple(_parse_limit(t.strip()) for t in plain_signs(text).lower().split(","))
        names = [limit.metric for limit in limits]
        for name in names:
            if names.count(name) > 1:
                _refuse("a budget must name each metric once", text, f"keep one limit on `{name}`")
        return cls(limits=limits)

    def __str__(self) -> str:
        return ",".join(str(limit) for limit in self.limits)

    @property
    def cost_names(self) -> tuple[str, ...]:
        """Costs to minimise, in the user's order; a limit on throughput counts as latency."""
        names = (limit.metric for limit in self.limits if limit.metric in COST_NAMES)
        return tuple(dict.fromkeys("latency" if n == "throughput" else n for n in names))

    @property
    def measured(self) -> bool:
        """Return whether the run must measure latency."""
        return any(limit.metric in MEASURED_NAMES for limit in self.limits)

    def costs_only(self) -> "Budget":
        """Return the budget without its limits on quality."""
        return Budget(limits=tuple(limit for limit in self.limits if limit.metric in COST_NAMES))

    def share(self, cost_name: str, dense: Mapping[str, float]) -> float | None:
        """Return the limit on a cost relative to the dense model's, at most 1.

        Args:
            cost_name: One of ``cost_names``.
            dense: Costs of the dense model.

        Returns:
            The smallest share that a limit allows; none if no limit concerns the cost.
        """
        shares = [
            dense[limit.metric] / limit.absolute(dense)
            if limit.metric == "throughput"
            else relative_cost(cost_name, limit.absolute(dense), dense)
            for limit in self.limits
            if limit.metric == cost_name or (limit.metric, cost_name) == ("throughput", "latency")
        ]
        return min(1.0, *shares) if shares else None

    def check_measured(self, dense: Mapping[str, float]) -> None:
        """Refuse limits on what the run did not measure, and on experts in a model without any.

        Args:
            dense: Costs of the dense model that the run knows.

        Raises:
            BudgetError: If there is such a limit.
        """
        for limit in self.limits:
            if limit.metric in EXPERT_NAMES and limit.metric not in dense:
                raise BudgetError(
                    f"`{limit}` needs a mixture of experts, got a model that runs all its weights "
                    "for every token; limit `params`, `size` or `macs`"
                )
            if limit.metric in MEASURED_NAMES and limit.metric not in dense:
                raise BudgetError(
                    f"`{limit}` needs a run that measured {limit.metric}, got one that did not; "
                    "search with a budget on latency or throughput"
                )

    def admits(self, values: Mapping[str, float], dense: Mapping[str, float]) -> bool:
        """Return whether a plan with these values meets every limit."""
        return all(limit.admits(values[limit.metric], dense) for limit in self.limits)

    def excess(self, values: Mapping[str, float], dense: Mapping[str, float]) -> float:
        """Return how far a plan exceeds the limit that it misses most, relative to the limit."""
        return max(limit.excess(values[limit.metric], dense) for limit in self.limits)


def check_reachable(
    budget: Budget, dense: Mapping[str, float], smallest: Mapping[str, float]
) -> None:
    """Refuse a budget that not even the smallest plan of the model meets.

    Args:
        budget: Limits; those on quality are not checked.
        dense: Costs of the dense model.
        smallest: Costs of the smallest plan.

    Raises:
        BudgetError: If no plan can meet a limit on a cost (the message says what can be met), or
            if a limited cost was not measured.
    """
    budget.check_measured(dense)
    for limit in budget.costs_only().limits:
        best = smallest[limit.metric]
        if not limit.admits(best, dense):
            bound = "most" if limit.metric in _AT_LEAST_NAMES else "least"
            raise BudgetError(
                f"`{limit}` cannot be met: the smallest plan of this model has "
                f"{limit.reached(best, dense)}; ask for at {bound} that"
            )


def relative_cost(metric_name: str, value: float, dense: Mapping[str, float]) -> float:
    """Return a cost relative to the dense model's; 0 if the dense model's is 0."""
    return value / dense[metric_name] if dense[metric_name] else 0.0


def format_amount(metric_name: str, value: float, decimals: int = 1) -> str:
    """Format a value with its unit for display, with so many decimals where it has any.

    >>> format_amount("params", 134_515_008), format_amount("size", 180_200_000)
    ('134.5M', '180.2 MB')
    """
    return _amount(metric_name, value, lambda number, _decimals: number, decimals)


def _amount(
    metric_name: str, value: float, rounded: Callable[[float, int], float], most_decimals: int = 1
) -> str:
    if metric_name not in COST_NAMES:
        return f"{value:.4g}"
    suffixes = _SUFFIXES[metric_name]
    # 999,960 reads 1.0M and not 1000.0K
    power = sum(value >= 0.99995 * 1000.0**i for i in range(1, len(suffixes)))
    decimals = most_decimals if power or metric_name in MEASURED_NAMES else 0
    number = rounded(value / 1000.0**power, decimals)
    per_token = "/token" if metric_name in _PER_TOKEN_NAMES else ""
    return f"{number:.{decimals}f}{suffixes[power]}{per_token}"


def _rounded_up(value: float, decimals: int) -> float:
    scale = 10.0**decimals
    return math.ceil(value * scale * (1 - _TOLERANCE)) / scale


def _rounded_down(value: float, decimals: int) -> float:
    scale = 10.0**decimals
    return math.floor(value * scale * (1 + _TOLERANCE)) / scale


def _operator(metric_name: str) -> str:
    return ">=" if metric_name in _AT_LEAST_NAMES else "<="


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


def _units(metric_name: str) -> dict[str, float]:
    suffixes = _SUFFIXES.get(metric_name, ())
    units = {suffix.strip(): 1000.0**power for power, suffix in enumerate(suffixes)}
    units.pop("", None)
    return units | (_BINARY_UNITS if metric_name in _BYTE_NAMES else {})


def _parse_limit(term: str) -> Limit:
    match = _TERM.fullmatch(term)
    if match is None:
        _refuse("a budget must read NAME<=VALUE", term, f"write as {_EXAMPLE}")
    name, operator, text = match.groups()
    metric_names = COST_NAMES + QUALITY_NAMES
    if name not in metric_names:
        remedy = suggestion(name, metric_names, f"write for example {_EXAMPLE}")
        _refuse(f"a budget can limit {', '.join(metric_names)}", name, remedy)
    if operator != _operator(name):
        rule = f"a budget on {name} understands only {_operator(name)}"
        _refuse(rule, term, f"write {name}{_operator(name)}{text[:20] or 'VALUE'}")
    return _parse_value(name, text, term)


def _parse_value(name: str, text: str, term: str) -> Limit:
    match = _VALUE.fullmatch(text)
    units = {unit.lower(): scale for unit, scale in _units(name).items()}
    relative = match is not None and match[2] == "x"
    if relative and name in QUALITY_NAMES:
        _refuse(f"`{name}` is absolute: the dense model's is 0", term, f"write {name}<=0.05")
    unit_fits = match is not None and (relative or match[2] in units or match[2] == "")
    if match is None or not unit_fits or (match[3] and name not in _PER_TOKEN_NAMES):
        formats = ["0.7x, not 70%, for a share of the dense model"] if name in COST_NAMES else []
        formats += [f"a number in {', '.join(_units(name))}"] if units else ["a number"]
        _refuse(f"`{name}` takes {' or '.join(formats)}", term, "fix the value")
    value = float(match[1]) * (1.0 if relative else units.get(match[2], 1.0))
    positive = relative or name in _AT_LEAST_NAMES
    if value < 0 or not math.isfinite(value) or (positive and value == 0):
        subject = "a share of the dense model" if relative else "a limit"
        rule = f"{subject} must be finite and {'above' if positive else 'at least'} 0"
        _refuse(rule, term, f"write for example {_EXAMPLE}")
    return Limit(metric=name, value=value, relative=relative)


def _refuse(rule: str, got: str, remedy: str) -> NoReturn:
    raise BudgetError(f"{rule}, got {shown(got)}; {remedy}")
