import torch
from transformers import PreTrainedModel

from evaluators.data.model_samples import from_model
from evaluators.data.windows import Calibration, Windows
from tests.evaluators.data.calibrations import every_window
from tests.models import tiny
from tests.progress import RecordedProgress

SAMPLED = Windows(search=25, fresh=10, holdout=5, tokens=30)


def sampled(model: PreTrainedModel, seed: int = 0) -> Calibration:
    return from_model(model, SAMPLED, seed=seed)


def test_sampled_windows_repeat_under_their_seed_and_leave_the_global_one_alone() -> None:
    model = tiny.llama(layers=1).backbone.model
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = sampled(model, 1), sampled(model, 1), sampled(model, 2)
    assert torch.equal(torch.rand(3), expected)
    assert first.search.shape == (25, 30)
    assert first.fresh.shape == (10, 30)
    assert first.holdout.shape == (5, 30)
    assert torch.equal(first.search, again.search)
    assert torch.equal(first.fresh, again.fresh)
    assert torch.equal(first.holdout, again.holdout)
    assert not torch.equal(first.search, other.search)
    assert not torch.equal(first.fresh, other.fresh)
    windows = every_window(first)
    assert len(set(map(tuple, windows.tolist()))) == 40
    assert first.source == "sampled from the model, seed 1"


def test_sampled_windows_begin_with_the_first_token_and_never_end() -> None:
    model = tiny.llama(layers=1).backbone.model
    found = sampled(model)
    windows = every_window(found)
    begin, end = model.config.bos_token_id, model.config.eos_token_id
    assert (windows[:, 0] == begin).all()
    # 1,160 draws from 101 tokens: it would be drawn about eleven times
    assert not (windows[:, 1:] == end).any()
    assert len(set(windows[:, 1:].flatten().tolist())) > 90


def test_a_model_without_a_first_token_begins_with_its_end_of_text() -> None:
    model = tiny.llama(layers=1).backbone.model
    model.config.bos_token_id = None
    model.config.eos_token_id = [7, 9]
    assert (sampled(model).search[:, 0] == 7).all()


def test_samples_are_drawn_at_temperature_one_whatever_the_model_prefers() -> None:
    model = tiny.llama(layers=1).backbone.model
    plain = sampled(model)
    for name, value in (("temperature", 0.1), ("top_k", 1), ("top_p", 0.1)):
        setattr(model.generation_config, name, value)
    model.generation_config.repetition_penalty = 3.0
    assert torch.equal(sampled(model).search, plain.search)


def test_samples_are_as_likely_as_the_model_says() -> None:
    model = tiny.llama(layers=1).backbone.model
    found = from_model(model, Windows(search=200, fresh=1, holdout=1, tokens=30), seed=0).search
    log_p = model(input_ids=found).logits[:, :-1].double()
    log_p[..., model.config.eos_token_id] = -torch.inf
    log_p = log_p.log_softmax(dim=-1)
    entropy = -(log_p.exp() * log_p.nan_to_num(neginf=0)).sum(dim=-1)
    surprise = -log_p.gather(2, found[:, 1:, None]).squeeze(2)
    # on average a draw surprises by the entropy: a sum of martingale differences
    excess = surprise - entropy
    error = float(excess.std()) / excess.numel() ** 0.5
    assert abs(float(excess.mean())) < 4 * error
    assert error < 0.1


def test_progress_counts_tokens_up_to_all_of_them() -> None:
    progress = RecordedProgress()
    model = tiny.llama(layers=1).backbone.model
    from_model(model, SAMPLED, seed=0, progress=progress)
    steps = progress.counts
    assert steps == sorted(steps)
    assert steps[-1] == (40 * 30, 40 * 30)
    assert {total for _, total in steps} == {40 * 30}
