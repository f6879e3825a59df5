"""A manifest, and a prediction that it judges."""

from evaluators.latency.workload import Latency, Workload
from planner.export.cards.manifest import Manifest, Prediction, Quality, Service
from search_spaces.models.identity import ModelIdentity

SERVICE = Service(
    runtime="torch",
    runtime_version="9",
    served_as={"dtype": "float32", "device": "cpu"},
    device="Some CPU",
    threads=2,
    perplexity={},
    kl=None,
    file_bytes={"dense": 2_000_128, "pruned": 1_600_128},
    latency={
        "dense": Latency(prefill_ms=100.0, decode_ms=10.0),
        "pruned": Latency(prefill_ms=80.0, decode_ms=9.0),
    },
    workload=Workload(new_tokens=10),
    prediction=None,
)

MANIFEST = Manifest(
    plan_id="0123456789",
    source="/models/SmolLM2-135M",
    model=ModelIdentity(architecture="LlamaForCausalLM", fingerprint="cafe", params=1000),
    needs_remote_code=True,
    costs={"params": 800.0, "size": 1.6e6, "macs": 700.0, "kv": 0.0},
    dense_costs={"params": 1000.0, "size": 2e6, "macs": 900.0, "kv": 64.0},
    search={
        "kl": Quality(value=0.5, standard_error=0.01),
        "agreement": Quality(value=0.75, standard_error=0.01),
    },
    holdout={},
    logit_gap=2e-5,
    logit_gap_allowed=1e-3,
    cache_gap=1e-6,
    written_tokens=32,
    macs_context=128,
    loading="Load it so.",
    service=SERVICE,
    files={},
    environment={"cpu": "Some CPU"},
)


PREDICTION = Prediction.compared(
    {
        "dense": Latency(prefill_ms=110.0, decode_ms=11.0),  # 220 ms a request
        "pruned": Latency(prefill_ms=88.0, decode_ms=8.8),  # 176 ms
    },
    SERVICE.latency,  # 200 and 170 ms
    SERVICE.workload,
)
