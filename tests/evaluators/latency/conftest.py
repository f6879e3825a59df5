import pytest
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from evaluators.latency import layer_benchmark, measure, stack_timer


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> FlopCounterMode:
    """Makes a clock that counts multiplications: a second each."""
    counter = FlopCounterMode(display=False)

    def now(_model: PreTrainedModel) -> float:
        return counter.get_total_flops()

    monkeypatch.setattr(measure, "now", now)
    monkeypatch.setattr(stack_timer, "now", now)
    monkeypatch.setattr(stack_timer, "STEPS", 1)  # the middle one of three
    monkeypatch.setattr(layer_benchmark, "TURNS", 2)
    return counter
