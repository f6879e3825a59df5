"""The model card says what the manifest says, in words."""

import math
from typing import Any

from planner.export.cards.card import write_card
from planner.export.cards.manifest import Divergence, Manifest, Perplexity, Quality
from tests.planner.export.cards.manifests import MANIFEST, PREDICTION


def with_service(**changes: Any) -> Manifest:
    service = MANIFEST.service.model_copy(update=changes)
    return MANIFEST.model_copy(update={"service": service})


def test_the_card_shows_costs_and_how_to_load() -> None:
    card = write_card(MANIFEST)
    assert "# SmolLM2-135M, pruned to 80% of its parameters" in card
    assert "| parameters | 1.0K | 800 | 0.80x |" in card
    assert "| prefill, 128 tokens | 100.0 ms | 80.0 ms | 0.80x |" in card
    assert "| decode, one token | 10.0 ms | 9.0 ms | 0.90x |" in card
    assert "`0123456789`" in card
    assert "2.0e-05 (allowed: 1.0e-03)" in card
    assert "\n\nLoad it so.\n" in card
    assert "Measured in torch 9, float32, Some CPU, 2 threads. Latency: batch 1.\n" in card


def test_what_was_made_is_said_as_it_is() -> None:
    same = {"params": 1000.0, "size": 5e5, "macs": 900.0}
    card = write_card(MANIFEST.model_copy(update={"costs": same}))
    assert "# SmolLM2-135M, in fewer bits\n" in card
    assert ": tensors of the same shapes, no\n" in card
    card = write_card(
        MANIFEST.model_copy(
            update={
                "costs": {**same, "nonzero": 500.0},
                "dense_costs": {**MANIFEST.dense_costs, "nonzero": 1000.0},
            }
        )
    )
    assert "# SmolLM2-135M, with 50% of its weights other than zero\n" in card


def test_bytes_are_said_as_written_and_in_their_formats() -> None:
    card = write_card(MANIFEST.model_copy(update={"written_size": 1.9e6}))
    assert "| weights on disk, as written | 2.0 MB | 1.9 MB | 0.95x |" in card
    assert "| weights on disk, were their formats kept | 2.0 MB | 1.6 MB | 0.80x |" in card
    assert "| weights on disk | 2.0 MB | 1.6 MB | 0.80x |" in write_card(MANIFEST)


def test_the_card_shows_how_far_the_prediction_was_off() -> None:
    costs = {**MANIFEST.costs, "latency": 176.0, "throughput": 1e4 / 176}
    dense = {**MANIFEST.dense_costs, "latency": 220.0, "throughput": 1e4 / 220}
    update = {"costs": costs, "dense_costs": dense}
    card = write_card(with_service(prediction=PREDICTION).model_copy(update=update))
    assert "| request, predicted | 220.0 ms | 176.0 ms | 0.80x |" in card
    assert "| throughput, predicted | 45.5 tokens/s | 56.8 tokens/s | 1.25x |" in card
    assert "predicted to take 176 ms, 0.800x of the dense model's" in card
    assert "it takes 170 ms, 0.850x: the prediction is off by +3.5% in milliseconds" in card
    assert "-5.9% in the share" in card


def test_the_card_says_why_latency_was_not_measured() -> None:
    missing = "a request (batch 9) does not fit into memory"
    card = write_card(with_service(latency={}, latency_missing=missing))
    assert "Latency was not measured: a request (batch 9) does not fit into memory.\n" in card
    assert " ms |" not in card


def test_a_folder_with_a_slash_at_its_end_has_a_name() -> None:
    card = write_card(MANIFEST.model_copy(update={"source": "./models/Tiny/"}))
    assert "# Tiny, pruned to" in card


def test_perplexity_is_that_of_the_runtime() -> None:
    nll = [2.0, 3.0]  # e to 2.5; half their difference over the root of 2 each way, times that
    both = {"dense": Perplexity.of([2.0, 2.0]), "pruned": Perplexity.of(nll)}
    card = write_card(with_service(perplexity=both))
    assert "| perplexity on held-out text, torch | 7.39 ± 0.00 | 12.18 ± 6.09 | 1.65x |" in card
    assert "perplexity on held-out" not in write_card(MANIFEST)


def test_perplexity_of_one_window_has_no_error_and_of_a_ruined_model_no_end() -> None:
    single = Perplexity.of([2.0])
    assert (str(single), single.standard_error) == ("7.39", None)
    assert Perplexity.model_validate_json(single.model_dump_json()) == single
    assert math.isfinite(Perplexity.of([800.0, 900.0]).value)


def test_the_card_says_what_the_proof_found() -> None:
    card = " ".join(write_card(MANIFEST).split())
    assert "at most 2.0e-05 (allowed: 1.0e-03)" in card
    assert "with its cache and without by at most 1.0e-06; 32 tokens that it writes are" in card


def test_each_format_names_its_library() -> None:
    assert "library_name: transformers\n" in write_card(MANIFEST)
    card = write_card(MANIFEST.model_copy(update={"format": "gguf"}))
    assert "library_name: gguf\n" in card
    assert "- gguf\n" in card
    assert "| weights on disk, gguf | 2.0 MB | 1.6 MB | 0.80x |" in card


def test_the_card_names_the_text_without_its_place() -> None:
    update = {"text": "/home/someone/notes`.txt", "compensate": "obs"}
    card = write_card(MANIFEST.model_copy(update=update))
    assert "It was searched on ``notes`.txt``, on which kept weights were updated" in card
    assert "ones (obs)." in card
    assert "/home" not in card
    card = write_card(MANIFEST.model_copy(update={"text": "sampled from the model, seed 0"}))
    assert "It was searched on text that the dense model wrote itself." in card
    assert "searched on `org/texts`." in write_card(
        MANIFEST.model_copy(update={"text": "org/texts"})
    )
    assert "It was searched" not in write_card(MANIFEST)


def test_a_source_without_licence_is_said_to_have_none() -> None:
    card = write_card(MANIFEST)
    assert "The card of the dense model names no licence." in card
    assert "license" not in card.split("---")[1]


def test_the_card_describes_the_kept_experts() -> None:
    said = "Of each layer's experts 2–8 of 8 stay."
    assert f"\n\n{said}\n\n|" in write_card(MANIFEST.model_copy(update={"experts": said}))
    assert "expert" not in write_card(MANIFEST)


def test_hold_out_scores_are_preferred() -> None:
    assert "on the search text: 0.500 ± 0.010 nats" in write_card(MANIFEST)
    held = {
        "kl": Quality(value=0.625, standard_error=0.02),
        "agreement": Quality(value=0.5, standard_error=0.01),
    }
    card = write_card(MANIFEST.model_copy(update={"holdout": held}))
    assert "on held-out text: 0.625 ± 0.020 nats" in card
    assert "nats a token; most probable token as in the dense model: 50.0%.\n" in card


def test_a_plan_from_a_file_has_no_scores() -> None:
    assert "KL divergence" not in write_card(MANIFEST.model_copy(update={"search": {}}))


def test_a_model_without_a_cache_is_shown() -> None:
    costs = {**MANIFEST.dense_costs, "kv": 0.0}
    card = write_card(MANIFEST.model_copy(update={"dense_costs": costs}))
    assert "| cache a token |" in card


def test_kl_in_the_runtime_is_held_against_what_was_scored() -> None:
    held = {"holdout": {"kl": Quality(value=0.625, standard_error=0.02)}}
    near = Divergence.of([0.625, 0.675])  # half their difference over the root of 2 each way
    card = write_card(with_service(kl=near).model_copy(update=held))
    assert "in torch it is 0.650 ± 0.025 on the same text, which is within the error" in card
    card = write_card(with_service(kl=Divergence.of([0.7])).model_copy(update=held))
    assert "in torch it is 0.700 on the same text, which differs by more than the error" in card
    # of the search text alone there is nothing to hold it against
    assert "Between both files" not in write_card(with_service(kl=near))


def test_the_card_says_in_what_keys_and_values_were_kept() -> None:
    card = write_card(with_service(served_as={"cache_type": "Q8_0"}))
    assert "Measured in torch 9, keys and values in Q8_0, Some CPU" in card


def test_bits_are_those_of_the_plan_and_not_of_one_type_for_all() -> None:
    costs = {"costs": {**MANIFEST.costs, "bits": 6.5}}
    costs["dense_costs"] = {**MANIFEST.dense_costs, "bits": 16.0}
    assert "| bits a weight | 16 | 6.5 | 0.41x |" in write_card(MANIFEST.model_copy(update=costs))
    one_type = with_service(served_as={"file_type": "Q4_K_M"}).model_copy(update=costs)
    assert "bits a weight" not in write_card(one_type)
