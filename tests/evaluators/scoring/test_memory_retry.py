import pytest
import torch
from torch import Tensor, nn

from evaluators.scoring.evaluator import Evaluator
from search_spaces.errors import SettingsError
from search_spaces.structure.backbone import LayerCall
from search_spaces.surgery.sort import sorted_as_is
from tests.evaluators.scoring.small_models import candidates, llama, values
from tests.models import tiny


def test_memory_that_runs_out_halves_the_batch(
    monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    counts = candidates(llama(), 5)
    expected = dict(Evaluator(sorted_as_is(llama()), tiny.windows(8)).score(counts))
    backbone = llama().backbone
    run_layer = backbone.run_layer

    def cramped(layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        if len(hidden) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return run_layer(layer, hidden, call)

    monkeypatch.setattr(backbone, "run_layer", cramped)
    judge = Evaluator(sorted_as_is(llama()), tiny.windows(8))
    found = dict(judge.score(counts))
    assert sorted(found) == list(range(5))
    for member, score in expected.items():
        assert values(found[member]) == pytest.approx(values(score), rel=1e-5)
    assert len(notices) == 2
    assert notices[-1] == "out of memory: going on with 2 windows at once, half as many"


def test_memory_for_not_even_one_window_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    monkeypatch.setattr(llama().backbone, "run_layer", never)
    with pytest.raises(SettingsError, match="one window of 12 tokens"):
        list(Evaluator(sorted_as_is(llama()), tiny.windows()).score(candidates(llama(), 2)))


def test_other_errors_are_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(layer: nn.Module, hidden: Tensor, call: LayerCall) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(llama().backbone, "run_layer", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        list(Evaluator(sorted_as_is(llama()), tiny.windows()).score(candidates(llama(), 2)))
