"""A card says how its folder is loaded, and what that trusts."""

from planner.targets.hf.loading_text import loading_text


def text(**changes: object) -> str:
    given = {"model_needs_code": False, "tokenizer_needs_code": False, "requires": ""}
    return loading_text(**{**given, **changes})  # type: ignore[arg-type]


def test_a_stock_export_loads_without_trust() -> None:
    said = text()
    assert "AutoModelForCausalLM.from_pretrained(FOLDER)" in said
    assert "AutoTokenizer.from_pretrained(FOLDER)" in said
    assert "trust" not in said


def test_code_of_ours_is_trusted_or_registered() -> None:
    said = text(model_needs_code=True)
    assert "AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)" in said
    assert "AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)" in said
    assert "planner.register(FOLDER)" in said
    assert "vllm serve FOLDER --trust-remote-code" in said


def test_a_tokenizer_with_code_of_its_own_is_loaded_with_trust() -> None:
    said = text(tokenizer_needs_code=True)
    assert "AutoModelForCausalLM.from_pretrained(FOLDER)" in said
    assert "AutoTokenizer.from_pretrained(FOLDER, trust_remote_code=True)" in said
    assert "The tokenizer needs `trust_remote_code=True` for code that came with it" in said


def test_versions_that_read_it_are_named() -> None:
    assert text(requires="transformers>=5").startswith("Loading takes `transformers>=5`.\n")
    assert "Loading takes" not in text()


def test_a_model_that_vllm_does_not_hold_is_said_to_be_so() -> None:
    assert "vLLM does not load it: it has none.\n" in text(refused_by_vllm="it has none")
