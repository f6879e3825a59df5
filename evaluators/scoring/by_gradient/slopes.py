"""What small steps from a candidate are expected to change of its KL."""

from dataclasses import dataclass, field

from evaluators.scoring.by_gradient.gate_gradients import GateGradients
from evaluators.scoring.by_gradient.output_fisher import OptionSensitivities


@dataclass(frozen=True, kw_only=True)
class Slopes:
    """Of one candidate, in nats a token."""

    gates: GateGradients | None = None
    """Of each component, the derivative by each unit's gate; None: it was not asked for."""
    options: OptionSensitivities = field(default_factory=dict)
    """Rises by the options that were asked about."""
    seconds: float = 0.0
    """That it took."""
