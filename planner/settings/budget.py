"""Budgets: limits on cost and quality such as ``params<=0.7x,kl<=0.05``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context
from functools import cached_property
from typing import NoReturn, Self

from evaluators.metric import METRICS, Metric, limitable_names, metric_names
from planner.settings.signs import plain_signs
from search_spaces.errors import BudgetError
from search_spaces.suggestions import shown, suggestion

_TERM = re.compile(r"([^<>=\s]+)\s*([<>=]+)\s*(.*)")
_VALUE = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*([a-z]*(?:/s)?)(/token)?")
_EXAMPLE = "params<=0.7x,kl<=0.05"
# more digits than anyone types; what overflows becomes infinite, and is refused as such
_EXACT = Context(prec=60, traps=[])
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
        return _operator(self._metric)

    def __str__(self) -> str:
        if self.relative:
            return f"{self.metric}{self.operator}{_plain(self.value)}x"
        exact = [
            f"{_plain(self.value / scale)}{unit}"
            for unit, scale in self._metric.units.items()
            if _scaled(repr(self.value / scale), scale) == self.value
        ]
        return f"{self.metric}{self.operator}{min([*exact, _plain(self.value)], key=len)}"

    def absolute(self, dense: Mapping[str, float]) -> float:
        """Return the limit in the metric's own unit."""
        return self.value * dense[self.metric] if self.relative else self.value

    def share(self, dense: Mapping[str, float]) -> float:
        """Return what it allows of the cost that is minimised for it, as a share of the dense."""
        if self._metric.is_maximised:
            return dense[self.metric] / self.absolute(dense)
        return relative_cost(self.metric, self.absolute(dense), dense)

    def excess(self, value: float, dense: Mapping[str, float]) -> float:
        """Return how far a value exceeds the limit, relative to it; 0 or less meets it."""
        limit = self.absolute(dense)
        difference = limit - value if self._metric.is_maximised else value - limit
        return difference / max(limit, _TINY)

    def admits(self, value: float, dense: Mapping[str, float]) -> bool:
        """Return whether a value meets the limit."""
        return self.excess(value, dense) <= _TOLERANCE

    def reached(self, value: float, dense: Mapping[str, float]) -> str:
        """Describe a value in the style of this limit, never rounded to look better than it is."""
        worse = _rounded_down if self._metric.is_maximised else _rounded_up
        if not self._metric.is_cost:
            return f"{self.metric} {worse(value, 4):g}"
        share = f"{worse(relative_cost(self.metric, value, dense), 3):g}x"
        amount = self._metric.amount(value, rounded=worse)
        first, second = (share, amount) if self.relative else (amount, share)
        return f"{self.metric} {first} ({second})"

    def check_known(self, dense: Mapping[str, float]) -> None:
        """Refuse to limit a cost that the run does not know of the dense model.

        Raises:
            BudgetError: If it does not; the message says what the cost needs.
        """
        if not self._metric.is_cost or self.metric in dense:
            return
        if self._metric.kind == "experts":
            raise BudgetError(
                f"`{self}` needs a mixture of experts, got a model that runs all its weights "
                "for every token; limit `params`, `size` or `macs`"
            )
        raise BudgetError(
            f"`{self}` needs a run that measured {self.metric}, got one that did not; "
            f"search with a budget on {' or '.join(metric_names(self._metric.kind))}"
        )

    @property
    def _metric(self) -> Metric:
        return METRICS[self.metric]


@dataclass(frozen=True, kw_only=True, eq=False)
class Budget:
    """Limits that a plan must all meet.

    Budgets are equal if their limits are, however written. The order of costs counts, for a
    search spreads its front over the first; the place of a limit on quality does not.
    """

    limits: tuple[Limit, ...] = ()

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

    @classmethod
    def of(cls, budget: "str | Budget") -> "Budget":
        """Return a budget as it is, or from its text.

        Raises:
            BudgetError: If the text breaks the grammar.
        """
        return budget if isinstance(budget, Budget) else cls.parse(budget)

    def __str__(self) -> str:
        return ",".join(str(limit) for limit in self.limits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Budget) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    @property
    def _value(self) -> tuple[tuple[Limit, ...], frozenset[Limit]]:
        costs = self.costs_only().limits
        return costs, frozenset(self.limits).difference(costs)

    @cached_property
    def cost_names(self) -> tuple[str, ...]:
        """Costs to minimise, in the user's order; a limit on throughput counts as latency."""
        limits = self.costs_only().limits
        return tuple(dict.fromkeys(METRICS[limit.metric].minimised for limit in limits))

    @property
    def measured(self) -> bool:
        """Return whether the run must measure latency."""
        return any(METRICS[limit.metric].kind == "measured" for limit in self.limits)

    def costs_only(self) -> "Budget":
        """Return the budget without its limits on quality."""
        return Budget(
            limits=tuple(limit for limit in self.limits if METRICS[limit.metric].is_cost)
        )

    def computed_only(self) -> "Budget":
        """Return the budget without its limits on what a run must measure on the device."""
        limits = (limit for limit in self.limits if METRICS[limit.metric].kind != "measured")
        return Budget(limits=tuple(limits))

    def share(self, cost_name: str, dense: Mapping[str, float]) -> float | None:
        """Return the limit on a cost relative to the dense model's, at most 1.

        Args:
            cost_name: One of ``cost_names``.
            dense: Costs of the dense model.

        Returns:
            The smallest share that a limit allows; none if no limit concerns the cost.
        """
        concerned = (each for each in self.limits if METRICS[each.metric].minimised == cost_name)
        shares = [limit.share(dense) for limit in concerned]
        return min(1.0, *shares) if shares else None

    def check_measured(self, dense: Mapping[str, float]) -> None:
        """Refuse limits on what the run did not measure, and on experts in a model without any.

        Args:
            dense: Costs of the dense model that the run knows.

        Raises:
            BudgetError: If there is such a limit.
        """
        for limit in self.limits:
            limit.check_known(dense)

    def check_reachable(self, dense: Mapping[str, float], smallest: Mapping[str, float]) -> None:
        """Refuse a budget that not even the smallest plan of the model meets.

        Limits on quality are not checked.

        Args:
            dense: Costs of the dense model.
            smallest: Costs of the smallest plan.

        Raises:
            BudgetError: If no plan can meet a limit on a cost (the message says what can be met),
                or if a limited cost was not measured.
        """
        self.check_measured(dense)
        for limit in self.costs_only().limits:
            best = smallest[limit.metric]
            if not limit.admits(best, dense):
                bound = "most" if METRICS[limit.metric].is_maximised else "least"
                remedy = f"; ask for at {bound} that"
                if best == dense[limit.metric]:
                    remedy = (
                        ", as the dense one: nothing can be pruned here that changes it; choose "
                        "more with `--space`"
                    )
                raise BudgetError(
                    f"`{limit}` cannot be met: the smallest plan of this model has "
                    f"{limit.reached(best, dense)}{remedy}"
                )

    def admits(self, values: Mapping[str, float], dense: Mapping[str, float]) -> bool:
        """Return whether a plan with these values meets every limit."""
        return all(limit.admits(values[limit.metric], dense) for limit in self.limits)

    def excess(self, values: Mapping[str, float], dense: Mapping[str, float]) -> float:
        """Return how far a plan exceeds the limit that it misses most, relative to the limit."""
        return max(limit.excess(values[limit.metric], dense) for limit in self.limits)


def relative_cost(metric_name: str, value: float, dense: Mapping[str, float]) -> float:
    """Return a cost relative to the dense model's; 0 if the dense model's is 0."""
    return value / dense[metric_name] if dense[metric_name] else 0.0


def _rounded_up(value: float, decimals: int) -> float:
    # half of what a limit tolerates, so that one at the rounded value is met
    scale = 10.0**decimals
    return math.ceil(value * scale * (1 - _TOLERANCE / 2)) / scale


def _rounded_down(value: float, decimals: int) -> float:
    scale = 10.0**decimals
    return math.floor(value * scale * (1 + _TOLERANCE / 2)) / scale


def _operator(metric: Metric) -> str:
    return ">=" if metric.is_maximised else "<="


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


def _parse_limit(term: str) -> Limit:
    match = _TERM.fullmatch(term)
    if match is None:
        _refuse("a budget must read NAME<=VALUE", term, f"write as {_EXAMPLE}")
    name, operator, text = match.groups()
    known_names = limitable_names()
    if name not in known_names:
        remedy = suggestion(name, known_names, f"write for example {_EXAMPLE}")
        _refuse(f"a budget can limit {', '.join(known_names)}", name, remedy)
    metric = METRICS[name]
    if operator != _operator(metric):
        rule = f"a budget on {name} understands only {_operator(metric)}"
        _refuse(rule, term, f"write {name}{_operator(metric)}{text[:20] or 'VALUE'}")
    return _parse_value(metric, text, term)


def _parse_value(metric: Metric, text: str, term: str) -> Limit:
    match, name = _VALUE.fullmatch(text), metric.name
    units = {unit.lower(): scale for unit, scale in metric.units.items()}
    relative = match is not None and match[2] == "x"
    if relative and not metric.is_cost:
        rule = f"a limit on `{name}` must be absolute, and no share of the dense model's"
        _refuse(rule, term, f"write for example {name}{_operator(metric)}0.05")
    unit_fits = match is not None and (relative or match[2] in units or match[2] == "")
    if match is None or not unit_fits or (match[3] and not metric.is_per_token):
        formats = ["0.7x, not 70%, for a share of the dense model"] if metric.is_cost else []
        formats += [f"a number in {', '.join(metric.units)}"] if units else ["a number"]
        _refuse(f"`{name}` takes {' or '.join(formats)}", term, "fix the value")
    value = _scaled(match[1], 1.0 if relative else units.get(match[2], 1.0))
    positive = relative or metric.is_maximised
    if value < 0 or not math.isfinite(value) or (positive and value == 0):
        subject = "a share of the dense model" if relative else "a limit"
        rule = f"{subject} must be finite and {'above' if positive else 'at least'} 0"
        _refuse(rule, term, f"write for example {_EXAMPLE}")
    return Limit(metric=name, value=value, relative=relative)


def _scaled(number: str, scale: float) -> float:
    """Return an amount in the metric's own unit, the same in whichever unit it was written."""
    exact = _EXACT.create_decimal(number)
    return float(_EXACT.multiply(exact, _EXACT.create_decimal_from_float(scale)))


def _refuse(rule: str, got: str, remedy: str) -> NoReturn:
    raise BudgetError(f"{rule}, got {shown(got)}; {remedy}")
