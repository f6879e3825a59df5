"""Models of other kinds are refused by what can be done about them."""

import json
from pathlib import Path

import pytest

from tests.models.damage import said_of

LLAVA = "LlavaForConditionalGeneration"
QWEN = "Qwen2VLForConditionalGeneration"
LANGUAGE_MODEL = "a LlamaForCausalLM of its `text_config`, with the weights of `language_model`"
NO_CLASS = "its text model has no class of its own in transformers: give another model"


@pytest.mark.parametrize(
    ("model_type", "architectures", "said"),
    [
        ("llava", [LLAVA], f"is `{LLAVA}`; save its text model as one of its own: "),
        ("llava", [LLAVA], LANGUAGE_MODEL),
        ("llava", None, f"is `llava`; save its text model as one of its own: {LANGUAGE_MODEL}"),
        ("qwen2_vl", [QWEN], f"is `{QWEN}`; {NO_CLASS}"),
        ("clip", ["CLIPModel"], f"is `CLIPModel`; {NO_CLASS}"),
        ("musicgen", None, "`model_type` in the config.json of "),
        ("whisper", ["WhisperForConditionalGeneration"], "must be a causal language model, and "),
    ],
)
def test_a_model_of_pictures_or_sound_is_refused_with_the_way_to_its_text_model(
    model_type: str, architectures: list[str] | None, said: str, tmp_path: Path
) -> None:
    config = {"model_type": model_type, "architectures": architectures}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert said in said_of(tmp_path)
