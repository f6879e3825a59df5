"""Files are described by what `sha256sum` would say, and a manifest survives its file."""

from pathlib import Path

import pytest

from evaluators.latency.measure import Latency, Workload
from planner.export.manifest import File, Manifest, Prediction, Quality, describe_files
from search_spaces.models.identity import ModelIdentity

MANIFEST = Manifest(
    plan_id="0123456789",
    source="/models/SmolLM2-135M",
    model=ModelIdentity(architecture="LlamaForCausalLM", fingerprint="cafe", params=1000),
    needs_remote_code=True,
    costs={"params": 800.0, "size": 1.6e6, "macs": 700.0, "kv": 0.0},
    dense_costs={"params": 1000.0, "size": 2e6, "macs": 900.0, "kv": 64.0},
    calibration={
        "kl": Quality(value=0.5, standard_error=0.01),
        "agreement": Quality(value=0.75, standard_error=0.01),
    },
    holdout={},
    logit_gap=2e-5,
    logit_gap_allowed=1e-3,
    cache_gap=1e-6,
    macs_context=128,
    threads=2,
    latency={
        "dense": Latency(prefill_ms=100.0, decode_ms=10.0),
        "pruned": Latency(prefill_ms=80.0, decode_ms=9.0),
    },
    workload=Workload(new_tokens=10),
    latency_dtype="float32",
    latency_device="Some CPU",
    prediction=None,
    files={},
    environment={"cpu": "Some CPU"},
)


PREDICTION = Prediction.compared(
    {
        "dense": Latency(prefill_ms=110.0, decode_ms=11.0),  # 220 ms a request
        "pruned": Latency(prefill_ms=88.0, decode_ms=8.8),  # 176 ms
    },
    MANIFEST.latency,  # 200 and 170 ms
    MANIFEST.workload,
)


def test_a_prediction_is_judged_by_the_request() -> None:
    assert PREDICTION.error == pytest.approx(176 / 170 - 1)
    assert PREDICTION.share_error == pytest.approx((176 / 220) / (170 / 200) - 1)


def test_files_have_their_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"abc")
    (tmp_path / "a.txt").write_bytes(b"")
    files = describe_files(tmp_path)
    # sha256 of "abc" and of nothing, as FIPS 180-2 gives them
    assert files == {
        "a.txt": File(
            bytes=0, sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        ),
        "b.txt": File(
            bytes=3, sha256="ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        ),
    }
    assert list(files) == ["a.txt", "b.txt"]


def test_a_manifest_survives_its_file() -> None:
    assert Manifest.model_validate_json(MANIFEST.model_dump_json()) == MANIFEST
