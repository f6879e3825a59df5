"""The model card says what the manifest says, in words."""

from planner.export.card import write_card
from planner.export.manifest import Quality
from tests.planner.export.test_manifest import MANIFEST


def test_the_card_shows_costs_and_how_to_load() -> None:
    card = write_card(MANIFEST)
    assert "# SmolLM2-135M, pruned to 80% of its parameters" in card
    assert "| parameters | 1.0K | 800 | 0.80x |" in card
    assert "| prefill, 128 tokens | 100.0 ms | 80.0 ms | 0.80x |" in card
    assert "| decode, one token | 10.0 ms | 9.0 ms | 0.90x |" in card
    assert "`0123456789`" in card
    assert "2.0e-05 (allowed: 1.0e-03)" in card
    assert "AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)" in card
    assert "Some CPU" in card


def test_a_folder_with_a_slash_at_its_end_has_a_name() -> None:
    card = write_card(MANIFEST.model_copy(update={"source": "./models/Tiny/"}))
    assert "# Tiny, pruned to" in card


def test_a_stock_export_loads_without_trust() -> None:
    card = write_card(MANIFEST.model_copy(update={"needs_remote_code": False}))
    assert "AutoTokenizer.from_pretrained(FOLDER)" in card
    assert "trust_remote_code" not in card


def test_hold_out_scores_are_preferred() -> None:
    assert "on calibration text: 0.500 ± 0.010 nats" in write_card(MANIFEST)
    held = {
        "kl": Quality(value=0.625, standard_error=0.02),
        "agreement": Quality(value=0.5, standard_error=0.01),
    }
    card = write_card(MANIFEST.model_copy(update={"holdout": held}))
    assert "on hold-out text: 0.625 ± 0.020 nats" in card
    assert "dense model's in 50.0% of places" in card


def test_a_plan_from_a_file_has_no_scores() -> None:
    assert "KL divergence" not in write_card(MANIFEST.model_copy(update={"calibration": {}}))


def test_a_model_without_a_cache_is_shown() -> None:
    costs = {**MANIFEST.dense_costs, "kv": 0.0}
    card = write_card(MANIFEST.model_copy(update={"dense_costs": costs}))
    assert "| cache a token |" in card
