import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.data.model_samples import from_model
from evaluators.data.windows import Calibration, Windows
from search_spaces.errors import DataError, ModelError
from tests.evaluators.data.calibrations import every_window
from tests.models import tiny
from tests.progress import RecordedProgress

SAMPLED = Windows(search=25, fresh=10, holdout=5, tokens=30)
FEW = Windows(search=2, fresh=1, holdout=1, tokens=12)


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


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return tiny.llama(layers=1).backbone.model


@pytest.fixture(scope="module")
def plain(model: PreTrainedModel) -> Calibration:
    return from_model(model, FEW, seed=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.1, "top_k": 1, "top_p": 0.1, "do_sample": False},
        {"repetition_penalty": 3.0, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 2.0},
        {"min_p": 0.3, "typical_p": 0.5, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "top_h": 0.5},
        {"num_beams": 3, "num_return_sequences": 3, "early_stopping": True, "length_penalty": 2.0},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"return_dict_in_generate": True, "output_scores": True, "output_logits": True},
        {"output_attentions": True, "output_hidden_states": True},
        {"max_length": 3, "min_length": 90, "max_time": 1e-9, "stop_strings": ["a"]},
        {"max_new_tokens": 2, "min_new_tokens": 1},
        {"bos_token_id": 10**6, "eos_token_id": [5, 10**6], "pad_token_id": -7},
        {"eos_token_id": "x", "pad_token_id": "y", "bos_token_id": 1.5},
        {"suppress_tokens": [*range(3, 80)], "begin_suppress_tokens": [9]},
        {"bad_words_ids": [[7]], "sequence_bias": [[[8], -9.0]], "remove_invalid_values": True},
        {"forced_bos_token_id": 9, "forced_eos_token_id": 9, "renormalize_logits": True},
        {"exponential_decay_length_penalty": [2, 5.0], "guidance_scale": 3.0},
        {"prompt_lookup_num_tokens": 3, "assistant_early_exit": 1, "dola_layers": "high"},
        {"penalty_alpha": 0.6, "custom_generate": "x/y", "trust_remote_code": True},
        {"use_cache": False, "cache_implementation": "nonsense", "cache_config": {"a": 1}},
        {"watermarking_config": {"bias": 2.5}, "token_healing": True, "low_memory": True},
        {"an_unknown_setting": object()},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_nothing_in_the_models_own_settings_steers_what_is_drawn(
    model: PreTrainedModel,
    plain: Calibration,
    settings: Mapping[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = copy.deepcopy(model.generation_config)
    for name, value in settings.items():
        setattr(own, name, value)
    monkeypatch.setattr(model, "generation_config", own)
    drawn = from_model(model, FEW, seed=0)
    assert torch.equal(every_window(drawn), every_window(plain))
    assert model.generation_config is own


def test_no_function_of_the_models_folder_takes_part(
    model: PreTrainedModel, plain: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    # where transformers puts what `custom_generate/generate.py` holds
    monkeypatch.setattr(model, "generate", None, raising=False)
    assert torch.equal(every_window(from_model(model, FEW, seed=0)), every_window(plain))


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        ({"bos_token_id": 10**6}, "`bos_token_id` .* embedding's 96 rows.* got `1000000`"),
        ({"bos_token_id": 96}, "`bos_token_id` .* got `96`"),
        ({"bos_token_id": -1}, "`bos_token_id` .* got `-1`"),
        ({"bos_token_id": "<s>"}, "`bos_token_id` .* got `<s>`"),
        ({"bos_token_id": True}, "`bos_token_id` .* got `True`"),
        ({"bos_token_id": None, "eos_token_id": [96]}, "`eos_token_id` .* got `96`"),
        ({"bos_token_id": None, "eos_token_id": []}, "`eos_token_id` .* got `None`"),
        ({"bos_token_id": None, "eos_token_id": None}, "`eos_token_id` .* got `None`"),
    ],
)
def test_a_first_token_that_is_none_is_refused_by_name(ids: dict[str, Any], said: str) -> None:
    model = tiny.llama(layers=1).backbone.model
    for name, value in ids.items():
        object.__setattr__(model.config, name, value)  # as a config of its own class may hold
    with pytest.raises(ModelError) as caught:
        from_model(model, FEW, seed=0)
    assert re.search(said, str(caught.value))
    assert len(str(caught.value)) <= 300


def test_ends_that_are_no_tokens_of_the_model_are_never_drawn_anyway(
    model: PreTrainedModel, plain: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.config, "eos_token_id", [2, 96, -1])
    assert torch.equal(every_window(from_model(model, FEW, seed=0)), every_window(plain))


def with_logits(model: PreTrainedModel, change: Callable[[Tensor], Tensor]) -> None:
    def changed(_module: object, _inputs: object, logits: Tensor) -> Tensor:
        return change(logits)

    model.get_submodule("lm_head").register_forward_hook(changed)


def test_a_model_that_repeats_itself_is_refused_and_not_asked_for_ever() -> None:
    model = tiny.llama(layers=1).backbone.model
    only = torch.full((96,), -torch.inf)
    only[7] = 0
    with_logits(model, lambda logits: logits * 0 + only)
    with pytest.raises(DataError) as caught:
        from_model(model, SAMPLED, seed=0)
    # 40 windows are asked for: 32 in the first batch, then what is missing
    assert str(caught.value) == (
        "the model's own text must differ from window to window, and of 96 windows that it wrote "
        "only 1 do; give text with `--data`"
    )


def test_windows_that_a_model_writes_twice_are_drawn_anew(notices: list[str]) -> None:
    model = tiny.llama(layers=1).backbone.model
    few = torch.full((96,), -torch.inf)
    few[[7, 8]] = 0
    with_logits(model, lambda logits: logits * 0 + few)
    found = from_model(model, Windows(search=16, fresh=8, holdout=8, tokens=8), seed=0)
    # seven draws of two tokens make 128 windows
    assert len(set(map(tuple, every_window(found).tolist()))) == 32
    assert any(re.fullmatch(r"\d windows that the model wrote twice .*", line) for line in notices)


def test_a_model_whose_logits_are_no_numbers_is_refused() -> None:
    model = tiny.llama(layers=1).backbone.model
    with_logits(model, lambda logits: logits * torch.nan)
    with pytest.raises(ModelError, match="logits must be finite"):
        from_model(model, FEW, seed=0)


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
