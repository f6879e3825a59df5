import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from evaluators.data import model_samples
from evaluators.data.model_samples import from_model
from evaluators.data.windows import DRAWS, Calibration, Windows
from search_spaces.errors import DataError, ModelError
from tests.evaluators.data.calibrations import every_window
from tests.models import tiny
from tests.progress import RecordedProgress

SAMPLED = Windows(statistics=8, search=17, fresh=10, holdout=5, tokens=30)
FEW = Windows(statistics=1, search=1, fresh=1, holdout=1, tokens=12)


def sampled(model: PreTrainedModel, seed: int = 0) -> Calibration:
    return from_model(model, SAMPLED, seed=seed)


def test_sampled_windows_repeat_under_their_seed_and_leave_the_global_one_alone() -> None:
    model = tiny.llama(layers=1).backbone.model
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = sampled(model, 1), sampled(model, 1), sampled(model, 2)
    assert torch.equal(torch.rand(3), expected)
    assert [len(getattr(first, name)) for name in DRAWS] == [8, 17, 10, 5]
    for name in DRAWS:
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
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
    # 40 windows are asked for at first, then twice the 39 that are missing
    assert str(caught.value) == (
        "the model's own text must differ from window to window, and of 118 windows that it wrote "
        "only 1 do; give text with `--data`"
    )


def test_windows_that_a_model_writes_twice_are_drawn_anew(notices: list[str]) -> None:
    model = tiny.llama(layers=1).backbone.model
    few = torch.full((96,), -torch.inf)
    few[[7, 8]] = 0
    with_logits(model, lambda logits: logits * 0 + few)
    asked = Windows(statistics=8, search=8, fresh=8, holdout=8, tokens=7)
    found = from_model(model, asked, seed=0)
    # six draws of two tokens make 64 windows
    assert len(set(map(tuple, every_window(found).tolist()))) == 32
    repeated = r"\d+ windows that the model wrote twice .*"
    assert any(re.fullmatch(repeated, line) for line in notices)


def test_a_model_whose_logits_are_no_numbers_is_refused() -> None:
    model = tiny.llama(layers=1).backbone.model
    with_logits(model, lambda logits: logits * torch.nan)
    with pytest.raises(ModelError, match="logits must be finite"):
        from_model(model, FEW, seed=0)


def test_samples_are_as_likely_as_the_model_says() -> None:
    model = tiny.llama(layers=1).backbone.model
    asked = Windows(statistics=0, search=200, fresh=1, holdout=1, tokens=30)
    found = from_model(model, asked, seed=0).search
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


def forward_passes(model: PreTrainedModel) -> list[tuple[int, ...]]:
    """Note the shape of what enters the model each time."""
    shapes: list[tuple[int, ...]] = []

    def note(_module: object, _args: object, kwargs: dict[str, Any]) -> None:
        shapes.append(tuple(kwargs["input_ids"].shape))

    model.register_forward_pre_hook(note, with_kwargs=True)
    return shapes


def test_all_windows_are_written_at_once_and_no_token_is_read_twice() -> None:
    model = tiny.llama(layers=1).backbone.model
    shapes = forward_passes(model)
    from_model(model, SAMPLED, seed=0)
    assert shapes == [(40, 1)] * 29


def test_as_many_windows_are_written_at_once_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = tiny.llama(layers=1).backbone.model
    config = model.config
    # keys and values of 30 tokens in float32, and four rows of 96 probabilities
    cached = 2 * config.hidden_size * config.num_key_value_heads // config.num_attention_heads
    of_one = 30 * 4 * cached + 4 * 4 * 96
    monkeypatch.setattr(model_samples, "BATCH_BYTES", 17 * of_one - 1)
    shapes = forward_passes(model)
    found = from_model(model, SAMPLED, seed=0)
    assert shapes == [(16, 1)] * 58 + [(8, 1)] * 29
    assert len(every_window(found)) == 40


def test_a_model_that_keeps_no_cache_reads_all_of_its_text_again(
    model: PreTrainedModel, plain: Calibration
) -> None:
    forgetful = tiny.llama(layers=1).backbone.model

    def forget(_module: object, _inputs: object, output: Any) -> Any:
        output.past_key_values = None
        return output

    forgetful.register_forward_hook(forget)
    drawn = from_model(forgetful, FEW, seed=0)
    assert torch.equal(every_window(drawn), every_window(plain))


@pytest.mark.parametrize(("seconds", "written"), [(0.0, 3), (1e9, 50)])
def test_what_time_does_not_allow_is_left_out_of_the_calibration(
    seconds: float, written: int
) -> None:
    model = tiny.llama(layers=1).backbone.model
    asked = Windows(
        statistics=50, fewest_statistics=3, search=2, fresh=2, holdout=2, tokens=8
    )  # fmt: skip
    found = from_model(model, asked, seed=0, seconds=seconds)
    assert [len(getattr(found, name)) for name in DRAWS] == [written, 2, 2, 2]
